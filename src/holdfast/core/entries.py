"""The durable vocabulary: what a journal can say.

An entry is a completion: something the handler waited for has come. Nothing is written when a step starts, so a step
is one record, and a crash before it runs the body again (G2); only of a step declared once the start is written too.
Entries are also the machine's only input, live and on replay: one path, one vocabulary.

Entry types are versioned for ever: a field is only ever added at the end with a default, a type never changes its
tag. tests/golden holds bytes of every version. Times are integer milliseconds since 1970, UTC.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from holdfast.core.damage import check
from holdfast.errors import Unreadable

T = TypeVar("T")

FORMAT = 1  # first byte of every stored body


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """An exception as data: it can be shown and raised again, but never import anything (G12)."""

    type: str
    message: str
    details: str = ""  # traceback text
    status: int | None = None  # of a TerminalError
    attempts: int = 1


class StepCompleted(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A step's body returned and its result is recorded."""

    at: int
    step: str
    digest: bytes  # of the scalar arguments
    result: bytes  # payload
    inputs: bytes  # payload, for people to read; never used on replay
    attempts: int
    started: int


class StepErrored(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A step ended in an error that is final: its retries are used up or it was terminal."""

    at: int
    step: str
    digest: bytes
    failure: Failure
    inputs: bytes
    started: int


class TimerFired(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A sleep ended or a timeout struck."""

    at: int
    timer: str


class PromiseSettled(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Someone outside resolved or rejected a promise."""

    at: int
    promise: str
    value: bytes  # payload; of the reason if rejected
    ok: bool


class CancelRequested(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Someone asked for the invocation to be cancelled."""

    at: int
    reason: str


class CallCompleted(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """An invocation that was called, or attached to, has returned."""

    at: int
    call: str
    digest: bytes
    result: bytes  # payload
    child: str  # the other invocation's id


class CallErrored(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """An invocation that was called, or attached to, ended without a result, or could not be called at all."""

    at: int
    call: str
    digest: bytes
    failure: Failure
    child: str
    code: str  # of the error the caller gets: errors.py


class SignalArrived(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Someone sent a named message. It waits in the mailbox until the handler receives it."""

    at: int
    name: str
    value: bytes  # payload


class StateRead(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """A note: the handler read state, and this is what it saw."""

    at: int
    note: str
    value: bytes | None  # payload; None: nothing was there


class ItemsRead(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """A note: the handler looked at a list of its object. The elements are kept by the object, not copied here."""

    at: int
    note: str
    first: int
    end: int


class VersionMarked(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """A note: which version of a deliberate change of the code this invocation follows."""

    at: int
    note: str
    version: int


class Emitted(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """A note: progress the handler told its watchers."""

    at: int
    note: str
    value: bytes  # payload


class Reopened(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """A person opened the failed invocation again, here. What is asked for from here on is known to the world by other
    names than before: the clean-up that followed the failure is gone from the journal, and has used those."""

    at: int
    deeds: int | None = None  # done since the entry before, what more there is was not; None: all there is


class StepBegun(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """A note: the body of a step declared once begins now. It is not begun again before it is known that nothing came
    of it."""

    at: int
    note: str  # the step
    digest: bytes  # of the scalar arguments
    attempt: int  # how often it has begun, this time too


class StepNotDone(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """A note: nothing came of a step that was begun, or it has failed for good. It may begin again, if anybody wants
    that."""

    at: int
    note: str  # the step
    by: str  # who says so: "body", "checker" or "person"
    why: str


class StepUnknown(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """A step declared once was begun, nobody knows what came of it, and its handler was told so."""

    at: int
    step: str
    digest: bytes
    failure: Failure  # how its body, or who looked for it, came to an end
    inputs: bytes
    started: int


# What a handler waited for. One at a time, in recorded order, they are all that moves it.
Completion = (
    StepCompleted | StepErrored | StepUnknown | TimerFired | PromiseSettled | CancelRequested | CallCompleted
    | CallErrored | SignalArrived
)  # fmt: skip
# What became of the bodies of steps declared once.
Start = StepBegun | StepNotDone
# What a handler was told without waiting, and what is known of bodies. Found again by its id, wherever it stands in the
# journal.
Note = StateRead | ItemsRead | VersionMarked | Emitted | Start
Entry = Completion | Note | Reopened
STARTS = (StepBegun, StepNotDone)
NOTES = (StateRead, ItemsRead, VersionMarked, Emitted, *STARTS)


class Returned(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The handler returned."""

    value: bytes  # payload


class Raised(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The handler raised."""

    failure: Failure
    deeds: bytes = b""  # done since the last entry: their digests, one after another


class Cancelled(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The handler ended by the cancel that was asked for."""

    reason: str


class Paused(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Why an invocation waits for a person. Not an end."""

    code: str
    reason: str
    at: int
    obeyed: int | None = None  # entries whose deeds were done; -1: not those of the beginning; None: all
    queued: bool = False  # not written any more: the row says it (InvocationRow.in_queue)


class Tried(msgspec.Struct, frozen=True, array_like=True):
    """A step that waits for its next attempt."""

    step: str
    failure: Failure  # of the last attempt; says how many there were
    started: int  # the first one
    next_at: int


class Woken(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """What has to be known when the invocation is loaded next: something came while nobody ran it, or steps of it wait
    for another attempt. Not an end."""

    obeyed: int | None  # as of Paused
    tries: tuple[Tried, ...] = ()


Outcome = Returned | Raised | Cancelled | Paused | Woken


class PromiseInfo(msgspec.Struct, frozen=True, array_like=True):
    """What a promise is about, for the person who settles it."""

    step: str  # its id within the invocation
    question: str = ""  # empty: a plain promise, not listed in the inbox
    schema: str = "{}"  # JSON schema of the value
    about: str = "null"  # JSON of what the handler wants shown
    deadline: int | None = None
    begun: int = 0  # of a question about what came of a step: after how many beginnings


_encoder = msgspec.msgpack.Encoder()
_entry_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)
_outcome_decoder: msgspec.msgpack.Decoder[Outcome] = msgspec.msgpack.Decoder(Outcome)
_info_decoder: msgspec.msgpack.Decoder[PromiseInfo] = msgspec.msgpack.Decoder(PromiseInfo)
_HEAD = bytes([FORMAT])


def encode(record: Entry | Outcome | PromiseInfo) -> bytes:
    """The stored bytes of a record."""
    try:
        return _HEAD + _encoder.encode(record)
    except UnicodeEncodeError:
        return _HEAD + _encoder.encode(_spelled_out(record))


def decode_entry(body: bytes) -> Entry:
    """The entry in stored bytes. Raises Unreadable."""
    return _decode(_entry_decoder, body)


def decode_outcome(body: bytes) -> Outcome:
    """The outcome in stored bytes. Raises Unreadable."""
    return _decode(_outcome_decoder, body)


def decode_info(body: bytes) -> PromiseInfo:
    """What a promise is about. Raises Unreadable."""
    return _decode(_info_decoder, body)


def _spelled_out(value: Any) -> Any:
    # A reason or an error's text may hold lone surrogates, from file names or broken JSON. They have no UTF-8 form.
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, msgspec.Struct):
        return type(value)(*(_spelled_out(getattr(value, name)) for name in value.__struct_fields__))
    return value


def _decode(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    if body[:1] != _HEAD:
        check(body)
        raise Unreadable(
            f"a stored record has format {body[:1].hex() or 'none'}, this version reads {FORMAT}",
            cause="the record was written by a newer Holdfast, or the file is damaged",
            fix="run the newest version, or restore a backup",
        )
    try:
        return decoder.decode(memoryview(body)[1:])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Unreadable(
            f"a stored record does not decode: {error}",
            cause="the file is damaged, or the record is of a newer Holdfast",
            fix="check the file with 'PRAGMA quick_check', run the newest version, or restore a backup",
        ) from None
