"""Payloads: the same text back, byte for byte, and a growing conversation at a constant price per turn."""

import sys
import zlib
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core import payload as module
from holdfast.core.payload import LIST_MAX, NODE_MAX, TEXT_MIN, UNPACKED_MAX, BlobIndex, pack, unpack
from holdfast.errors import Unreadable

encode = msgspec.json.encode


class Owner:
    """An owner's blobs, and what they cost."""

    def __init__(self):
        self.index = BlobIndex()
        self.rows = {}
        self.bytes = 0
        self.fetches = []

    def put(self, text):
        packed = pack(text, self.index)
        self.bytes += len(packed.payload)
        for number, digest, body in packed.blobs:
            assert number not in self.rows
            assert len(digest) == 16
            self.rows[number] = (digest, body)
            self.bytes += len(body)
        return packed.payload

    def fetch(self, first, last):
        assert first <= last
        self.fetches.append((first, last))
        return [(number, self.rows[number][1]) for number in sorted(self.rows) if first <= number <= last]

    def get(self, payload):
        return unpack(payload, self.fetch)

    def reload(self):
        self.index = BlobIndex([(number, digest) for number, (digest, _) in self.rows.items()])


def say(random, size=2048):
    words = random.choices(WORDS, weights=WEIGHTS, k=size)
    return " ".join(words)[:size]


WORDS = ["".join(Random(seed).choices("etaoinshrdlu", k=2 + seed % 8)) for seed in range(2000)]
WEIGHTS = [1 / (rank + 2) for rank in range(2000)]

SHAPES = {
    "the list": lambda messages: messages,
    "arguments": lambda messages: [messages, "model-1"],
    "named arguments": lambda messages: {"messages": messages, "model": "model-1"},
    "a request": lambda messages: [{"model": "model-1", "messages": messages}],
    "both": lambda messages: ["model-1", {"$named": {"messages": messages}}],
}
ANSWERS = {
    "text": lambda turn, text: text,
    "message": lambda turn, text: {"role": "assistant", "content": text},
    "completion": lambda turn, text: {
        "id": f"chatcmpl-{turn}",
        "created": 1_700_000_000 + turn,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": turn, "completion_tokens": 7, "total_tokens": turn + 7},
    },
}


def converse(owner, shape, answer, turns, size=2048, seed=1):
    """For each turn what was stored beyond its two texts compressed; and the last payload."""
    random = Random(seed)
    messages, beyond, payloads = [], [], []
    for turn in range(turns):
        beyond.append(-owner.bytes)
        for role in ("user", "assistant"):
            text = say(random, size)
            beyond[-1] -= min(len(zlib.compress(encode(text), 1)), len(text))
            if role == "assistant":
                owner.put(encode(answer(turn, text)))
            messages.append({"role": role, "content": text})
            if role == "user":
                asked = encode(shape(messages))
                payloads.append((asked, owner.put(asked)))
        beyond[-1] += owner.bytes
    for asked, payload in payloads[:: max(1, turns // 5)] + payloads[-1:]:
        assert owner.get(payload) == asked
    return beyond, payloads[-1][1]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_conversation_costs_the_same_at_every_turn(shape, answer):
    owner = Owner()
    beyond, last = converse(owner, SHAPES[shape], ANSWERS[answer], 60)
    assert max(beyond[10:]) - min(beyond[10:]) < 20
    assert max(beyond[10:]) < {"text": 130, "message": 170, "completion": 340}[answer]
    assert len(last) < 100


@pytest.mark.slow
def test_five_hundred_turns_cost_their_texts_and_little_more():
    owner = Owner()
    beyond, last = converse(owner, SHAPES["arguments"], ANSWERS["text"], 500)
    assert max(beyond[10:]) - min(beyond[10:]) < 20
    assert max(beyond[10:]) < 130
    assert len(last) < 40


def test_short_replies_do_not_break_the_runs():
    owner = Owner()
    beyond, last = converse(owner, SHAPES["arguments"], ANSWERS["text"], 100, size=40)
    assert max(beyond[10:]) - min(beyond[10:]) < 20
    assert len(last) < 40


def test_a_restart_in_the_middle_costs_one_turn():
    owner = Owner()
    random = Random(3)
    messages = [{"role": "user", "content": say(random)} for _ in range(50)]
    for upto in range(1, 50):
        owner.put(encode([messages[:upto]]))
        if upto == 30:
            owner.reload()
    before = owner.bytes
    payload = owner.put(encode([messages]))
    assert owner.bytes - before < 1_300
    assert owner.get(payload) == encode([messages])


def test_a_text_is_one_blob_wherever_it_stands():
    owner = Owner()
    text = say(Random(1))
    result = owner.put(encode(text))
    assert list(owner.rows) == [-1]
    owner.put(encode({"role": "assistant", "content": text}))
    owner.put(encode([[{"role": "assistant", "content": text}], text, {"a": {"b": [text]}}]))
    assert list(owner.rows) == [-1]
    assert owner.get(result) == encode(text)


def test_a_list_is_remembered_at_first_sight_and_stored_in_nodes_at_the_second():
    owner = Owner()
    rows = [{"role": "user", "content": f"message {n}"} for n in range(20)]
    owner.put(encode(rows))
    assert owner.rows == {}
    assert owner.get(owner.put(encode(rows))) == encode(rows)
    assert list(owner.rows) == list(range(1, 21))
    assert owner.put(encode(rows)) == b"\x01" + msgspec.msgpack.encode([b"[", [1, 20], b"]"])


def test_a_window_that_slides_still_finds_its_elements():
    owner = Owner()
    rows = [{"role": "user", "content": f"message {n} and so on"} for n in range(60)]
    for start in range(40):
        payload = owner.put(
            encode([{"role": "system", "content": f"it is {start} o'clock now"}, *rows[start : start + 20]])
        )
    assert len(payload) < 120
    assert len([number for number in owner.rows if number > 0]) <= 100
    assert owner.get(payload).count(b"message") == 20


def test_long_lists_of_data_are_left_whole():
    owner = Owner()
    for data in ([1.5] * 50_000, [{"row": n, "value": "some text"} for n in range(LIST_MAX + 1)]):
        assert owner.put(encode(data)) == b"\x00" + encode(data) == owner.put(encode(data))


def test_large_elements_are_opened():
    owner = Owner()
    big = {"role": "tool", "content": "x" * NODE_MAX, "parts": ["y" * 300, {"z": "w" * 300}]}
    texts = encode([big, big])
    for _ in range(3):
        assert owner.get(owner.put(texts)) == texts
    assert [number for number in sorted(owner.rows) if number < 0] == [-3, -2, -1]
    assert max(len(body) for number, (_, body) in owner.rows.items() if number > 0) < 50


def test_texts_are_compressed_where_that_saves():
    owner = Owner()
    owner.put(encode("ab" * 1000))
    noise = Random(1).randbytes(600).hex()
    owner.put(encode(noise))
    owner.put(encode("x" * 300))
    assert [owner.rows[n][1][0] for n in (-1, -2, -3)] == [1, 1, 0]
    assert len(owner.rows[-1][1]) < 50


def test_a_read_fetches_ranges_and_not_rows():
    owner = Owner()
    _, last = converse(owner, SHAPES["arguments"], ANSWERS["text"], 50)
    owner.fetches.clear()
    owner.get(last)
    assert len(owner.fetches) <= 3


@pytest.mark.parametrize(
    "text",
    [
        b"", b"null", b'""', b"[]", b"{}", b"x" * 300, b'"' + b"x" * 300, b"[" * 300, b"[" * 300 + b"]" * 300,
        b'{"a":' * 300 + b"1" + b"}" * 300, b"[1e400," + b"1," * 300 + b"1]", b'["' + b"x" * 300 + b'",1e400]',
        b'{"a":"' + b"x" * 300 + b'","a":"' + b"y" * 300 + b'"}',
        b'{"a" : "' + b"x" * 300 + b'"}', b' ["' + b"x" * 300 + b'"]', b'["' + b"x" * 300 + b'" ]',
        b'["' + b"x" * 300 + b'"] ', b'"' + b"x" * 300 + b'" ', b'"' + b"x" * 300 + b'" "y"',
        b'{"\\u0041":"' + b"x" * 300 + b'"}', b'{"\\u001F":"' + b"x" * 300 + b'"}',
        b'{"\\ud83d\\ude00":"' + b"x" * 300 + b'","\\/":"' + b"z" * 300 + b'"}',
        b'["' + b"\\u00e9" * 100 + b'","' + b'\\"' * 200 + b'"]', b'["\xff' + b"x" * 300 + b'"]',
        b'["' + "\u20ac\U0001f600".encode() * 100 + b'"]', b"[[],[],{}," + b'"' + b"x" * 300 + b'"]',
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_any_bytes_come_back_as_they_were(text):
    owner = Owner()
    for _ in range(3):
        assert owner.get(owner.put(text)) == text


LONG = st.sampled_from(["x" * 300, "é" * 200, '"\\' * 150, "\x00\u2028" * 200])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | LONG,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text() | LONG, inner, max_size=4),
    max_leaves=25,
)


@given(st.lists(JSON, min_size=1, max_size=4))
def test_any_json_comes_back_and_so_does_all_that_was_stored_before(values):
    owner = Owner()
    texts = [encode(value) for value in values]
    texts += [encode([values[:upto], {"all": values}]) for upto in range(len(values) + 1)]
    payloads = []
    for place, text in enumerate(texts):
        payloads.append(owner.put(text))
        if place % 3 == 2:
            owner.reload()
    assert [owner.get(payload) for payload in payloads] == texts


@given(
    st.binary(max_size=400) | st.text(alphabet='[]{}",:\\ ab0123456789eu', min_size=200, max_size=500).map(str.encode)
)
def test_text_that_is_no_json_comes_back_too(text):
    owner = Owner()
    padded = text + b"x" * TEXT_MIN
    for sample in (text, padded, b'["' + padded + b'",' + text + b"]"):
        assert owner.get(owner.put(sample)) == sample


LONG_A, LONG_B = b'"' + b"a" * 300 + b'"', b'"' + b"b" * 600 + b'"'
TEXTS = b"[" + LONG_A + b"," + LONG_B + b",1]"
MESSAGES = b'[{"role":"user","content":' + LONG_A + b'},{"role":"user","content":"short"},7]'
GOLDEN_TEXTS = bytes.fromhex("0195c4015bffc4012cfec4032c315d")
GOLDEN_MESSAGES = bytes.fromhex("0193c4015b920102c4032c375d")
GOLDEN_ROWS = {
    -1: b"\x00" + LONG_A,
    -2: bytes.fromhex("017801534a1a05a321408310500200e50ae5f5"),
    1: bytes.fromhex("000193c4197b22726f6c65223a2275736572222c22636f6e74656e74223affc4017d"),
    2: bytes.fromhex("00007b22726f6c65223a2275736572222c22636f6e74656e74223a2273686f7274227d"),
}
GOLDEN_DIGESTS = {
    -1: "807cbaadeb1a11f45b5166c861556d2f",
    -2: "6e321878d357c7b44275029eaa25023a",
}


def fetch_golden(first, last):
    return [(number, GOLDEN_ROWS[number]) for number in sorted(GOLDEN_ROWS) if first <= number <= last]


def test_bytes_stored_by_this_version_can_always_be_read():
    """Golden bytes: these may be added to and never changed."""
    assert unpack(b'\x00{"a":1}', fetch_golden) == b'{"a":1}'
    assert unpack(GOLDEN_TEXTS, fetch_golden) == TEXTS
    assert unpack(GOLDEN_MESSAGES, fetch_golden) == MESSAGES
    assert unpack(segments([1, 1, 2, 1, 1, 2]), fetch_golden) == b",".join([MESSAGES[1:-3], MESSAGES[1:-3]])


def test_bytes_are_still_written_the_same_way():
    owner = Owner()
    assert owner.put(b'{"a":1}') == b'\x00{"a":1}'
    assert owner.put(TEXTS) == GOLDEN_TEXTS
    owner.put(MESSAGES)
    assert owner.put(MESSAGES) == GOLDEN_MESSAGES
    # The compressed one is left out: another zlib may find a shorter form of the same text.
    assert {n: body for n, (_, body) in owner.rows.items() if n != -2} == {
        n: body for n, body in GOLDEN_ROWS.items() if n != -2
    }
    assert {n: owner.rows[n][0].hex() for n in GOLDEN_DIGESTS} == GOLDEN_DIGESTS


def segments(*parts):
    return b"\x01" + msgspec.msgpack.encode(list(parts))


BOMB = b"\x01" + zlib.compress(b"x" * (UNPACKED_MAX + 1), 1)
ROWS = {
    -1: b"\x00text",
    -2: b"",
    -3: b"\x07text",
    -4: b"\x01not zlib",
    -5: b"\x01" + zlib.compress(b"text")[:-2],
    -6: b"\x01" + zlib.compress(b"text") + b"more",
    -7: BOMB,
    1: b"\x00" + segments([1, 1]),
    2: b"\x00" + segments([3, 1]),
    3: b"\x00" + segments([2, 1], [2, 1]),
    4: b"\x00",
    5: b"\x00\x05",
    6: b"\x00" + segments(-1),
    **{number: b"\x00" + segments([number + 1, 1]) for number in range(100, 300)},
    **{number: b"\x00" + segments(*[[number + 1, 1]] * 40) for number in range(400, 410)},
    410: b"\x00\x00" + b"x" * 100,
}


def fetch_rows(first, last):
    return [(number, ROWS[number]) for number in sorted(ROWS) if first <= number <= last]


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\x02text", b"\x01", b"\x01\xff", segments(-1)[:-1], segments(-1) + b"\x00", segments(5), segments(0),
        segments([]), segments([1]), segments([0, 1]), segments([1, 0]), segments([-1, 1]), segments([6, 1, 6]),
        segments([1, LIST_MAX + 1]), segments([2**40, 1]), segments("text"), segments(None), segments(1.5),
        segments([[1]]), segments(-2**40), segments(-9), segments([20, 1]), segments([6, 3]),
        *(segments(-number) for number in range(2, 8)), *(segments([number, 1]) for number in (1, 2, 3, 4, 5)),
        segments([100, 1]), segments([100, 199]), segments([400, 1]),
    ],
    ids=lambda payload: payload.hex(),
)  # fmt: skip
def test_malformed_payloads_are_unreadable(payload):
    with pytest.raises(Unreadable, match="cannot be put together"):
        unpack(payload, fetch_rows)


def test_nodes_may_share_and_nest_within_reason():
    assert unpack(segments(b"[", [6, 1, 6, 1], b"]"), fetch_rows) == b"[text,text]"
    assert unpack(segments([408, 1]), fetch_rows).count(b"x" * 100) == 1600


SEGMENT = st.one_of(
    st.binary(max_size=5),
    st.integers(-8, 3),
    st.lists(st.integers(-2, 8), max_size=4),
    st.integers(-(2**63), 2**64 - 1),
    st.none(),
)
BODY = st.one_of(
    st.binary(max_size=8).map(lambda data: b"\x00" + data),
    st.binary(max_size=8).map(lambda data: b"\x01" + zlib.compress(data)),
    st.binary(max_size=8),
    st.lists(SEGMENT, max_size=4).map(lambda parts: b"\x00" + segments(*parts)),
)


@settings(max_examples=300)
@given(
    st.lists(SEGMENT, max_size=5).map(lambda parts: segments(*parts)) | st.binary(max_size=30).map(b"\x01".__add__),
    st.dictionaries(st.integers(-8, 8), BODY, max_size=10),
)
def test_malformed_bytes_are_unreadable_and_nothing_else(payload, rows):
    def fetch(first, last):
        return [(number, rows[number]) for number in sorted(rows) if first <= number <= last]

    try:
        assert isinstance(unpack(payload, fetch), bytes)
    except Unreadable:
        return


def test_what_was_met_once_is_not_remembered_without_end(monkeypatch):
    monkeypatch.setattr(module, "SEEN_MAX", 50)
    owner = Owner()
    for turn in range(20):
        owner.put(encode([{"turn": turn, "row": row, "pad": "x" * 20} for row in range(10)]))
    assert len(owner.index.seen) == 50
    assert sys.getsizeof(owner.index.seen) < 10_000
