"""Stored bytes are for ever: what any version wrote is read, what is not of ours is told apart from what is damaged."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.core import entries
from holdfast.core.entries import (
    CallCompleted,
    CallErrored,
    Cancelled,
    CancelRequested,
    Emitted,
    Failure,
    ItemsRead,
    Paused,
    PromiseInfo,
    PromiseSettled,
    Raised,
    Reopened,
    Returned,
    SignalArrived,
    StateRead,
    StepBegun,
    StepCompleted,
    StepErrored,
    StepNotDone,
    StepUnknown,
    TimerFired,
    Tried,
    VersionMarked,
    Woken,
    decode_entry,
    decode_info,
    decode_outcome,
    encode,
)  # fmt: skip
from holdfast.errors import StepFailed, TerminalError, Unreadable
from tests.core.case import Ctx, Life, live
from tests.core.shapes import double, echo, fail, refuse

GOLDEN = Path(__file__).parents[1] / "golden"
DECODERS: dict[str, Callable[[bytes], Any]] = {"entry": decode_entry, "outcome": decode_outcome, "info": decode_info}

AT = 1_700_000_000_123
FAILURE = Failure("ValueError", "no such city: Orléans \N{MICROSCOPE}", "Traceback ...", None, 3)
SAMPLES: dict[str, list[Any]] = {
    "entry": [
        StepCompleted(AT, "2.1/fetch#3", bytes(range(8)), b'\x00{"temp":21.5}', b'\x00["Oslo"]', 2, AT - 900),
        StepErrored(AT, "pay#1", b"", FAILURE, b"\x00[]", AT - 1),
        StepErrored(AT, "pay#1", b"\xff" * 8, Failure("TerminalError", "gone", status=404), b"\x00[]", AT),
        TimerFired(AT, "~.1/timer#1"),
        PromiseSettled(AT, "ask#1", b"\x00true", ok=True),
        PromiseSettled(AT, "ask#2", b'\x00"too late"', ok=False),
        CancelRequested(AT, "the user left"),
        CallCompleted(AT, "double#1", bytes(range(8)), b"\x0042", "inv_1"),
        CallErrored(AT, "double#2", b"", FAILURE, "inv_2", "HF503"),
        SignalArrived(AT, "more", b'\x00"please"'),
        StateRead(AT, "get name#1", b'\x00"Ada"'),
        StateRead(AT, "get name#2", None),
        ItemsRead(AT, "list messages#1", 3, 17),
        VersionMarked(AT, "version greeting", 2),
        Emitted(AT, "2/emit#1", b'\x00{"done":0.5}'),
        Reopened(AT),
        Reopened(AT, 2),
        StepBegun(AT, "2.1/pay#1", bytes(range(8)), 2),
        StepNotDone(AT, "2.1/pay#1", "person", "I rang the bank"),
        StepUnknown(AT, "2.1/pay#1", bytes(range(8)), FAILURE, b"\x00[12]", AT - 900),
    ],
    "outcome": [
        Returned(b"\x00null"),
        Raised(FAILURE),
        Raised(FAILURE, bytes(range(16))),
        Cancelled("the user left"),
        Paused("HF303", "code has changed", AT),
        Paused("HF303", "code has changed", AT, 3),
        Paused("HF505", "lunch", AT, -1, queued=True),
        Woken(-1),
        Woken(3, (Tried("0/pay#1", Failure("TimeoutError", "no answer", attempts=4), AT, AT + 60_000),)),
    ],
    "info": [
        PromiseInfo("promise#1"),
        PromiseInfo("ask#1", "Approve?", '{"type":"boolean"}', '{"amount":12}', AT + 60_000),
        PromiseInfo("pay#1", "What came of it?", '{"type":"object"}', '{"step":"pay#1"}', begun=2),
    ],
}


def plain(value: Any) -> Any:
    """A record as JSON can show it, by the names of its fields."""
    if isinstance(value, msgspec.Struct):
        return {"": type(value).__name__} | {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    return value.hex() if isinstance(value, bytes) else value


def golden(name: str) -> list[Any]:
    return [record for path in sorted(GOLDEN.glob(f"{name}_*.json")) for record in json.loads(path.read_text())]


@pytest.mark.parametrize("record", golden("records"), ids=lambda record: record["value"][""])
def test_what_was_ever_written_is_read(record: dict[str, Any]) -> None:
    read = plain(DECODERS[record["kind"]](bytes.fromhex(record["bytes"])))
    # Fields that came later have their defaults; those that were there say what they said.
    assert read.items() >= record["value"].items()


@pytest.mark.parametrize("kind", SAMPLES)
def test_what_is_written_today_is_in_the_golden_files(kind: str) -> None:
    """A new field or type fails here: add a file with the bytes it makes, and never touch an old one."""
    kept = {record["bytes"] for record in golden("records")}
    new = [{"kind": kind, "bytes": encode(one).hex(), "value": plain(one)} for one in SAMPLES[kind]]
    assert [record for record in new if record["bytes"] not in kept] == []


def test_every_type_of_record_has_a_sample() -> None:
    unions = {"entry": entries.Entry, "outcome": entries.Outcome}
    for kind, union in unions.items():
        assert {type(sample) for sample in SAMPLES[kind]} == set(union.__args__)


def test_tags_are_never_given_twice() -> None:
    for union in (entries.Entry, entries.Outcome):
        tags = [one.__struct_config__.tag for one in union.__args__]
        assert len(tags) == len(set(tags))


async def errand(ctx: Ctx) -> Any:
    """The handler of the golden journals: what it does is as much for ever as its journals."""
    found = await ctx.run(double, 21)
    pair = await asyncio.gather(ctx.run(echo, "a"), ctx.run(echo, "b"))
    try:
        await ctx.run(fail, "down")
    except StepFailed as error:
        pair.append(error.message)
    try:
        await ctx.run(refuse, "gone")
    except TerminalError as error:
        pair.append(error.status)
    await asyncio.sleep(1.5)
    try:
        async with asyncio.timeout(60):
            pair.append(await ctx.promise("answer"))
    except TimeoutError:
        pair.append("no answer")
    return [found, *pair]


@pytest.mark.parametrize("saved", golden("journals"), ids=lambda saved: saved["outcome"][0])
def test_a_journal_of_any_version_replays_to_its_outcome(saved: dict[str, Any]) -> None:
    journal = [decode_entry(bytes.fromhex(body)) for body in saved["journal"]]
    life = Life(errand, journal)
    assert list(life.outcome or ()) == saved["outcome"]
    life.machine.evict()


def test_todays_journals_are_those_of_the_golden_files() -> None:
    kept = {tuple(saved["journal"]) for saved in golden("journals")}
    runs = [live(errand, 1), live(errand, 10), live(errand, 1, cancel=True)]
    new = [
        {"journal": [encode(entry).hex() for entry in run.journal], "outcome": run.snapshots[-1]["outcome"]}
        for run in runs
    ]
    assert [saved for saved in new if tuple(saved["journal"]) not in kept] == []
    assert {saved["outcome"][0] for saved in new} == {"returned", "cancelled"}


ALL = [(kind, sample) for kind, samples in SAMPLES.items() for sample in samples]


@pytest.mark.parametrize("kind,sample", ALL)
def test_a_record_that_is_cut_off_anywhere_is_unreadable(kind: str, sample: Any) -> None:
    body = encode(sample)
    assert DECODERS[kind](body) == sample
    for length in range(len(body)):
        with pytest.raises(Unreadable):
            DECODERS[kind](body[:length])


@pytest.mark.parametrize("kind,sample", ALL)
def test_a_record_with_fields_of_a_newer_version_is_read(kind: str, sample: Any) -> None:
    fields = msgspec.msgpack.decode(encode(sample)[1:])
    for more in ([None], [1, "two", {"three": 3}]):
        assert DECODERS[kind](encode(sample)[:1] + msgspec.msgpack.encode([*fields, *more])) == sample


@pytest.mark.parametrize("first", [b"\x00", b"\x02", b"\xfe", b"{"])
def test_a_record_of_another_format_names_it(first: bytes) -> None:
    with pytest.raises(Unreadable, match=f"has format {first.hex()}, this version reads 1"):
        decode_entry(first + encode(TimerFired(1, "timer#1"))[1:])
    with pytest.raises(Unreadable, match="has format none"):
        decode_entry(b"")


def test_a_record_of_an_unknown_type_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="newer Holdfast"):
        decode_entry(b"\x01" + msgspec.msgpack.encode([99, AT, "x"]))


def test_an_outcome_is_not_taken_for_an_entry() -> None:
    with pytest.raises(Unreadable):
        decode_entry(encode(Paused("HF303", "", AT)))


@pytest.mark.parametrize(
    "body",
    [
        b"\x01",
        b"\x01" + b"\x91" * 100_000,  # nested beyond any stack
        b"\x01\xdd\xff\xff\xff\xff",  # an array of four billion
        b"\x01\x93\x05\x01\xdb\xff\xff\xff\xff",  # a text of four gigabytes
        b"\x01\x93\x05\x01\xa2\xff\xfe",  # a text that is no UTF-8
        b"\x01\x93\x05\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\xa0",  # a time that is not a number
        encode(TimerFired(1, "t")) + b"\x00",
    ],
)
def test_damage_is_unreadable_and_nothing_worse(body: bytes) -> None:
    with pytest.raises(Unreadable, match="does not decode"):
        decode_entry(body)


@given(body=st.binary(max_size=60), first=st.sampled_from([b"", b"\x01"]))
def test_garbage_is_unreadable_or_a_record(body: bytes, first: bytes) -> None:
    for decode in DECODERS.values():
        with suppress(Unreadable):
            assert decode(first + body)


@given(data=st.data())
def test_a_flipped_byte_never_raises_anything_but_unreadable(data: st.DataObject) -> None:
    kind, sample = data.draw(st.sampled_from(ALL))
    body = bytearray(encode(sample))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Unreadable):
        assert DECODERS[kind](bytes(body))


# Lone surrogates too, as file names and broken JSON bring them.
TEXTS = st.text(st.characters(exclude_categories=()) | st.sampled_from("\ud800\udfff"))


@given(reason=TEXTS, details=TEXTS)
@example(reason="\ud800", details="a\udcffb")
def test_any_text_of_an_error_can_be_stored(reason: str, details: str) -> None:
    for record in (
        CancelRequested(AT, reason),
        StepErrored(AT, "s#1", b"", Failure("E", reason, details), b"", AT),
    ):
        read = decode_entry(encode(record))
        assert read == record or "\\ud" in repr(read)
    outcome = decode_outcome(encode(Raised(Failure("E", reason, details))))
    assert isinstance(outcome, Raised)
    assert outcome.failure.message == reason.encode("utf-8", "backslashreplace").decode()
