"""A codec under a running engine: nothing readable reaches the disk, and what does not decode stops one invocation."""

import hashlib

import apsw
import pytest

from holdfast import Context, InvocationPaused, StoreForeign, TerminalError, WrongStatus
from tests.engine.world import World, wait_for
from tests.stores.codecs import Sealed

LONG = "long secret " * 40  # stored once, apart from what it is part of


@pytest.fixture
def sqlite_world(tmp_path):
    def make(name):
        (tmp_path / name).mkdir()
        return World("sqlite", tmp_path / name)

    return make


def first(text: str) -> str:
    return f"step secret {text[:3]}"


def last(text: str) -> str:
    return text + " again"


async def talk(ctx: Context, text: str) -> str:
    one = await ctx.run(first, text)
    answer = await ctx.ask("question secret", about={"about": "about secret"})
    await ctx.run(last, LONG)
    return f"result secret {one} {answer}"


async def fail(ctx: Context) -> None:
    raise TerminalError("failure secret")


def run_all(world, **options):
    hf = world.holdfast(talk, fail, **options)
    with hf as client:
        handle = client.start("talk", "input secret " + LONG, id="t")
        wait_for(client.asks)
        client.answer(client.asks()[0].id, "answer secret")
        result = handle.result(5)
        with pytest.raises(TerminalError, match="failure secret"):
            client.start("fail", id="f").result(5)
    return result


SECRETS = ["input", "step", "question", "about", "answer", "result", "failure", "long"]
DIGEST = hashlib.sha256(f'"{LONG}"'.encode()).digest()[:16]  # as payloads are told apart by


def secrets_in(content):
    found = [text for text in SECRETS if f"{text} secret".encode() in content]
    return [*found, "digest"] if DIGEST in content else found


def test_nothing_that_handlers_and_people_say_is_on_the_disk_in_plain(sqlite_world):
    plain = sqlite_world("plain")
    result = run_all(plain)
    assert secrets_in(plain.all_bytes()) == [*SECRETS, "digest"]  # else the search could not find any
    coded = sqlite_world("coded")
    assert run_all(coded, codec=Sealed()) == result
    assert secrets_in(coded.all_bytes()) == []


def test_an_engine_over_a_codec_goes_on_after_a_restart(world):
    hf = world.holdfast(talk, codec=Sealed())
    with hf as client:
        client.start("talk", "input", id="t")
        wait_for(client.asks)
    with world.holdfast(talk, codec=Sealed()) as client:
        assert client.asks()[0].about == {"about": "about secret"}
        client.answer(client.asks()[0].id, "yes")
        assert client.attach("t").result(5) == "result secret step secret inp yes"
        assert [entry.output for entry in client.attach("t").journal()] == ["step secret inp", "yes", LONG + " again"]


@pytest.mark.parametrize("column", ["input", "entry"])
def test_a_row_that_was_swapped_stops_its_invocation_and_no_other(sqlite_world, column):
    world = sqlite_world("swapped")
    with world.holdfast(talk, codec=Sealed()) as client:
        for id in ("a", "b", "c"):
            client.start("talk", id, id=id)
        wait_for(lambda: len(client.asks()) == 3)
    swap(world.path, column)
    with world.holdfast(talk, codec=Sealed()) as client:
        for ask in client.asks():
            if ask.invocation == "c":
                client.answer(ask.id, "yes")
            else:
                with pytest.raises(WrongStatus, match="did not decode"):
                    client.answer(ask.id, "yes")
                with pytest.raises(InvocationPaused, match="did not decode"):
                    client.attach(ask.invocation).result(5)
        assert client.attach("c").result(5).startswith("result secret")
        assert {view.id: view.status for view in client.list()} == {"a": "paused", "b": "paused", "c": "done"}


def swap(path, column):
    """Exchanges what a and b have there, as whoever has the file can."""
    connection = apsw.Connection(str(path))
    (a,), (b,) = connection.execute("SELECT n FROM invocation WHERE id IN ('a', 'b') ORDER BY id")
    if column == "input":
        texts = dict(connection.execute("SELECT n, input FROM invocation WHERE n IN (?, ?)", (a, b)))
        connection.executemany("UPDATE invocation SET input = ? WHERE n = ?", [(texts[a], b), (texts[b], a)])
    else:
        texts = dict(connection.execute("SELECT n, body FROM entry WHERE n IN (?, ?) AND seq = 0", (a, b)))
        connection.executemany("UPDATE entry SET body = ? WHERE n = ? AND seq = 0", [(texts[a], b), (texts[b], a)])
    connection.close()


@pytest.mark.parametrize("options", [{"codec": Sealed(b"wrong")}, {}], ids=["another key", "no codec"])
def test_a_wrong_key_and_none_at_all_pause_nobody(world, options):
    with world.holdfast(talk, codec=Sealed()) as client:
        client.start("talk", "input", id="t")
        wait_for(client.asks)
    for _ in range(2):
        with pytest.raises(StoreForeign, match="written with a"), world.holdfast(talk, **options):
            pass
    with world.holdfast(talk, codec=Sealed()) as client:
        assert client.attach("t").status().status == "suspended"
