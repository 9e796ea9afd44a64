r"""Stored payloads: JSON text with holes, so that a growing conversation costs the same at every turn.

Promises: `unpack(pack(text)) == text`, byte for byte; a long string or a list element that was stored before by the
same owner is stored as a number. Refuses: malformed bytes, with Unreadable and no other error.

    payload  = b"\x00" text                      as it is
             | b"\x01" msgpack([segment, ...])   with holes
    segment  = bytes                             a piece of the text
             | -n                                the text blob n: a JSON string, with its quotes
             | [start, count, start, count, ...] runs of node blobs, joined by commas: elements of a list
    body     = codec byte (0 raw, 1 zlib), then for a text blob the JSON string, for a node blob a payload

Not every element becomes a node at first sight. A list's elements are only remembered by their digest, until a second
list has one of them: then the list is one that grows, and all its elements become nodes, new ones at once. The lists
inside model answers, which never come back, would otherwise take numbers between the messages of the conversation,
and its runs would fall into as many pieces as it has turns.

The list that grew last is remembered by the digest of its whole text. One that begins with that text is opened only
where it is new: a turn hashes the conversation once, and does not walk through it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec

from holdfast.core.damage import check
from holdfast.errors import Unreadable

TEXT_MIN = 256  # bytes of a JSON string that becomes a text blob; below, the row would cost more than it saves
NODE_MIN = 24  # bytes of a node; {"role":"user","content":""} has 28, and a short reply must not break a run
NODE_MAX = 32 * 1024  # larger elements are opened instead: hashing them whole at each turn would be the turn's cost
LIST_MAX = 4_096  # longer lists are data and no conversations
SEEN_MAX = 8_192  # digests of elements met once
NESTING_MAX = 64  # of containers that are opened, and of nodes in nodes
ZLIB_MIN = 512  # bytes of a body that is worth compressing
UNPACKED_MAX = 64 * 1024 * 1024  # bytes of text; a few damaged bytes must not ask for more memory

Fetch = Callable[[int, int], list[tuple[int, bytes]]]
_Segment = bytes | int | list[int]

INLINE: Final = b"\x00"  # first byte of a payload that is its JSON text as it is
_HOLED: Final = b"\x01"
_OPENERS = frozenset(b'"[{')
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_quote = msgspec.json.Encoder().encode
_pack_segments = msgspec.msgpack.Encoder().encode
_read_segments = msgspec.msgpack.Decoder(list[bytes | int | list[int]]).decode


class Packed(NamedTuple):
    """A payload, and the blobs it is the first to need: they must be committed with it."""

    payload: bytes
    blobs: list[tuple[int, bytes, bytes]]  # number, digest, body


class _Grown(NamedTuple):
    """A list whose elements are all nodes."""

    size: int  # bytes of its text without the closing bracket
    hashed: Any  # that text, and goes on with what is added
    elements: int
    runs: list[int]


class BlobIndex:
    """What one owner has stored: digest to number, texts at -1, -2, ... and nodes at 1, 2, ...

    `pack` enters new blobs at once. If their commit fails the index is wrong, and so is everything else in memory: a
    failed commit stops the store for good.
    """

    __slots__ = ("grown", "nodes", "nodes_last", "seen", "texts", "texts_last")

    def __init__(self, stored: Iterable[tuple[int, bytes]] = ()) -> None:
        self.texts: dict[bytes, int] = {}
        self.nodes: dict[bytes, int] = {}
        self.texts_last = 0
        self.nodes_last = 0
        self.seen: dict[bytes, None] = {}  # elements met once, oldest first; lost with the process, at no harm
        self.grown: _Grown | None = None  # the same
        for number, digest in stored:
            (self.nodes if number > 0 else self.texts)[digest] = number
            self.nodes_last = max(self.nodes_last, number)
            self.texts_last = min(self.texts_last, number)


def pack(text: bytes, index: BlobIndex) -> Packed:
    """Replaces what `index` knows, or is to know from now on, by numbers. `text` is JSON; anything else stays whole."""
    if len(text) < TEXT_MIN:
        return Packed(INLINE + text, [])
    packer = _Packer(index)
    return Packed(packer.payload(memoryview(text), lists=True), packer.blobs)


class _Packer:
    """One call of `pack`."""

    __slots__ = ("blobs", "index")

    def __init__(self, index: BlobIndex) -> None:
        self.index = index
        self.blobs: list[tuple[int, bytes, bytes]] = []

    def payload(self, text: memoryview, lists: bool) -> bytes:
        """`lists`: look for nodes too. Not inside a node: an element is one piece, and only its texts are shared."""
        out = _Pieces(text)
        self._open(out, 0, len(text), lists, 0)
        segments = out.finish()
        return INLINE + bytes(text) if segments is None else _HOLED + _pack_segments(segments)

    def _open(self, out: _Pieces, start: int, end: int, lists: bool, depth: int) -> None:
        """Finds the holes between two offsets of the text, which hold one JSON value."""
        if end - start < TEXT_MIN or depth > NESTING_MAX:
            return
        text = out.text
        first = text[start]
        if first == ord('"'):
            out.hole(start, end, self._text(text[start:end]))
        elif first == ord("[") and text[start + 1] in _OPENERS:
            self._open_list(out, start, end, lists, depth)
        elif first == ord("{"):
            for at, size in _inside_object(text[start:end]):
                self._open(out, start + at, start + at + size, lists, depth + 1)

    def _open_list(self, out: _Pieces, start: int, end: int, lists: bool, depth: int) -> None:
        grown = self._grown(out.text, start, end) if lists else None
        if grown is None:
            at, elements = start + 1, _inside_list(out.text[start:end])
            known = self._known(elements) if lists and len(elements) <= LIST_MAX else None
        else:
            at = start + grown.size + 1
            elements = _inside_list(memoryview(b"[" + out.text[at:end]))
            known = [_digest(element) if _may_be_node(element) else None for element in elements]
            out.hole(start + 1, at - 1, list(grown.runs))
        for place, element in enumerate(elements):
            size = len(element)
            number = None if known is None else self._node(element, known[place])
            if number is None:
                self._open(out, at, at + size, lists, depth + 1)
            else:
                out.node(at, at + size, number)
            at += size + 1
        if known is not None:
            self._remember(out, start, end, grown, len(elements))

    def _grown(self, text: memoryview, start: int, end: int) -> _Grown | None:
        """The list that grew last, if the one between two offsets begins with it."""
        grown = self.index.grown
        if grown is None or grown.elements >= LIST_MAX:
            return None
        middle = start + grown.size
        if middle >= end or text[middle] != ord(","):
            return None
        return grown if sha256(text[start:middle]).digest() == grown.hashed.digest() else None

    def _remember(self, out: _Pieces, start: int, end: int, grown: _Grown | None, added: int) -> None:
        runs = out.segments[-1]
        count = added if grown is None else grown.elements + added
        if not isinstance(runs, list) or sum(runs[1::2]) != count or out.done != end - 1:
            return  # not all of it is nodes
        done, hashed = (start, sha256()) if grown is None else (start + grown.size, grown.hashed)
        hashed.update(out.text[done : end - 1])
        self.index.grown = _Grown(end - 1 - start, hashed, count, list(runs))

    def _known(self, elements: list[memoryview]) -> list[bytes | None] | None:
        """The digest of each element that may be a node; None when the list is not known to grow."""
        nodes, seen = self.index.nodes, self.index.seen
        digests = [_digest(element) if _may_be_node(element) else None for element in elements]
        if len(elements) > 1 and any(digest in nodes or digest in seen for digest in digests if digest is not None):
            return digests
        for digest in digests:
            if digest is not None:
                seen[digest] = None
        while len(seen) > SEEN_MAX:
            del seen[next(iter(seen))]
        return None

    def _node(self, element: memoryview, digest: bytes | None) -> int | None:
        if digest is None:
            return None
        number = self.index.nodes.get(digest)
        if number is None:
            body = compress(self.payload(element, lists=False))
            self.index.nodes_last = number = self.index.nodes_last + 1
            self.index.nodes[digest] = number
            self.index.seen.pop(digest, None)
            self.blobs.append((number, digest, body))
        return number

    def _text(self, string: memoryview) -> int:
        digest = _digest(string)
        number = self.index.texts.get(digest)
        if number is None:
            self.index.texts_last = number = self.index.texts_last - 1
            self.index.texts[digest] = number
            self.blobs.append((number, digest, compress(bytes(string))))
        return number


class _Pieces:
    """Segments of one text while it is walked from left to right."""

    __slots__ = ("done", "segments", "text")

    def __init__(self, text: memoryview) -> None:
        self.text = text  # a view, so that a slice of a 2 MB conversation is no copy
        self.segments: list[_Segment] = []
        self.done = 0  # the text up to here is in the segments

    def hole(self, start: int, end: int, segment: int | list[int]) -> None:
        if start > self.done:
            self.segments.append(bytes(self.text[self.done : start]))
        self.segments.append(segment)
        self.done = end

    def node(self, start: int, end: int, number: int) -> None:
        last = self.segments[-1] if self.segments else None
        if not isinstance(last, list) or start != self.done + 1:  # more than a comma since the last node
            self.hole(start, end, [number, 1])
            return
        if last[-2] + last[-1] == number:
            last[-1] += 1
        else:
            last += (number, 1)
        self.done = end

    def finish(self) -> list[_Segment] | None:
        """All segments; None if there is no hole."""
        if self.segments and self.done < len(self.text):
            self.segments.append(bytes(self.text[self.done :]))
        return self.segments or None


def _may_be_node(element: memoryview) -> bool:
    # Lists are opened, never nodes: the arguments of a call are a list whose first element is the conversation.
    return NODE_MIN <= len(element) <= NODE_MAX and element[0] != ord("[")


def _inside_list(text: memoryview) -> list[memoryview]:
    """The elements, when they and single commas are all there is between the brackets; else nothing."""
    try:
        elements = [memoryview(element) for element in _elements(text)]
    except (msgspec.MsgspecError, RecursionError):
        return []
    return elements if sum(map(len, elements)) + len(elements) + 1 == len(text) else []


def _inside_object(text: memoryview) -> list[tuple[int, int]]:
    """Offset and size of each member's value; nothing if the text is not compact or has a key twice."""
    try:
        members = _members(text)
    except (msgspec.MsgspecError, RecursionError):
        return []
    places = []
    at = 1
    for key, member in members.items():
        at += len(_quote(key)) + 1
        size = len(memoryview(member))
        places.append((at, size))
        at += size + 1
    # A key is at least as long as we would write it, and blanks only add: equal length means that all offsets hold.
    return places if at == len(text) else []


def _digest(text: memoryview) -> bytes:
    return sha256(text).digest()[:16]


def compress(data: bytes) -> bytes:
    """A stored body: the data, smaller where that is worth it."""
    if len(data) >= ZLIB_MIN:
        small = zlib.compress(data, 1)
        if len(small) < len(data):
            return b"\x01" + small
    return b"\x00" + data


def unpack(payload: bytes, fetch: Fetch) -> bytes:
    """The JSON text. `fetch(first, last)` gives (number, body) of the blobs between two numbers. Raises Unreadable."""
    if payload[:1] == INLINE:
        return payload[1:]
    unpacker = _Unpacker(fetch)
    segments = _segments(payload)
    unpacker.load(segments)
    return unpacker.join(segments, 0)


class _Unpacker:
    """One call of `unpack`. Blobs are fetched level by level, in ranges and not one at a time."""

    __slots__ = ("_fetch", "_loaded_bytes", "_nodes", "_texts")

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._texts: dict[int, bytes] = {}
        self._nodes: dict[int, list[_Segment] | bytes | None] = {}  # bytes once joined, None while being joined
        self._loaded_bytes = 0

    def load(self, segments: list[_Segment]) -> None:
        level = [segments]
        for _ in range(NESTING_MAX):
            wanted = {number for segments in level for number in _numbers(segments)}
            missing = sorted(number for number in wanted if number not in self._texts and number not in self._nodes)
            if not missing:
                return
            level = []
            for first, last in _ranges(missing):
                level += self._load_range(first, last)
            if any(number not in self._texts and number not in self._nodes for number in missing):
                raise _malformed("a blob it needs is not there")
        raise _malformed("its nodes are nested too deeply")

    def _load_range(self, first: int, last: int) -> Iterator[list[_Segment]]:
        for number, body in self._fetch(first, last):
            data = expand(body)
            self._loaded_bytes += len(data)
            if self._loaded_bytes > UNPACKED_MAX:
                raise _malformed("it is too large")
            if number < 0:
                self._texts[number] = data
            else:
                segments = self._nodes[number] = _segments(data)
                yield segments

    def join(self, segments: list[_Segment], depth: int) -> bytes:
        if depth > NESTING_MAX:
            raise _malformed("its nodes are nested too deeply")
        pieces: list[bytes] = []
        size = 0
        for segment in segments:
            if isinstance(segment, bytes):
                piece = segment
            elif isinstance(segment, int):
                piece = self._texts[segment]
            else:
                piece = b",".join(self._node(number, depth) for number in _run_numbers(segment))
            size += len(piece)
            if size > UNPACKED_MAX:
                raise _malformed("it is too large")
            pieces.append(piece)
        return b"".join(pieces)

    def _node(self, number: int, depth: int) -> bytes:
        node = self._nodes[number]
        if node is None:
            raise _malformed("a node contains itself")
        if isinstance(node, list):
            self._nodes[number] = None
            self._nodes[number] = node = self.join(node, depth + 1)
        return node


def _segments(payload: bytes) -> list[_Segment]:
    """The segments of a payload, checked: after this their numbers can be trusted to make sense."""
    kind = payload[:1]
    if kind == INLINE:
        return [payload[1:]]
    if kind != _HOLED:
        check(payload)
        raise _malformed(f"it starts with {kind!r}")
    try:
        segments = _read_segments(payload[1:])
    except msgspec.MsgspecError as failure:
        raise _malformed(str(failure)) from failure
    for segment in segments:
        if isinstance(segment, int):
            good = segment < 0
        elif isinstance(segment, list):
            good = len(segment) % 2 == 0 and min(segment, default=0) > 0 and max(segment[1::2]) <= LIST_MAX
        else:
            continue
        if not good:
            raise _malformed(f"segment {segment!r} makes no sense")
    return segments


def _numbers(segments: list[_Segment]) -> Iterator[int]:
    for segment in segments:
        if isinstance(segment, int):
            yield segment
        elif isinstance(segment, list):
            yield from _run_numbers(segment)


def _run_numbers(runs: list[int]) -> Iterator[int]:
    for start, count in zip(runs[::2], runs[1::2], strict=True):
        yield from range(start, start + count)


def _ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Sorted numbers as (first, last) without gaps."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


def expand(body: bytes) -> bytes:
    """The data of a stored body. Raises Unreadable."""
    kind = body[:1]
    if kind == b"\x00":
        return body[1:]
    if kind != b"\x01":
        raise _malformed(f"a blob starts with {kind!r}")
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(body[1:], UNPACKED_MAX + 1)
    except zlib.error as failure:
        raise _malformed(f"a blob does not decompress ({failure})") from failure
    if not inflater.eof or inflater.unused_data:
        raise _malformed("a blob is cut off, too large, or has more than its text")
    return data


def _malformed(why: str) -> Unreadable:
    return Unreadable(
        f"a stored payload cannot be put together: {why}",
        cause="the stored bytes are damaged, or rows were deleted by hand",
        fix="restore a backup; other invocations are not affected",
    )
