"""What a store behind a codec does beyond the suite: what it hides, what it refuses, what it shows of the damage."""

import re
from pathlib import Path

import apsw
import pytest

from holdfast.core import entries as records
from holdfast.core.damage import check
from holdfast.core.payload import unpack
from holdfast.errors import StoreFailed, StoreForeign, StoreFull, Unreadable
from holdfast.stores.base import CODED, Batch, StateRow, WaiterRow
from holdfast.stores.coded import CodedStore
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sqlite import SqliteStore
from tests.engine.world import Wrapped
from tests.stores.codecs import Sealed
from tests.stores.rows import blob, entry, item, move, promise, settle, snapshot, start, state

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def full_batch():
    """Every kind of row, every body another text."""
    return Batch(
        starts=[start(1, input=b"secret input", outcome=b"secret end"), start(2)],
        entries=[entry(1, 0, b"secret entry"), entry(1, 1), entry(2, 0)],
        moves=[move(2, 3, outcome=b"secret reason")],
        blobs=[blob(1, 7, b"secret blob")._replace(digest=b"secret digest...")],
        promises=[
            promise("p", 1)._replace(about=b"secret question"),
            promise("q", 1, status=1, value=b"secret answer"),
        ],
        settles=[settle("p", value=b"secret value")],
        states=[state(b"secret state")],
        items=[item(0, b"secret item")],
        waiters=[WaiterRow("call/1", 1)],
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "agent.db"


@pytest.fixture
def store(path):
    store = CodedStore(SqliteStore(path), Sealed())
    store.open()
    yield store
    store.close()


def sql(store, text, *values):
    """As somebody with a shell would, while the store is closed."""
    store.close()
    connection = apsw.Connection(str(store._below._path))
    rows = connection.execute(text, values).fetchall()
    connection.close()
    store.open()
    return rows


def test_no_body_is_in_the_file_as_it_was_given(store, path):
    store.commit(full_batch())
    plain = SqliteStore(path.with_name("plain.db"))
    plain.open()
    plain.commit(full_batch())

    def found(path):
        files = [file.read_bytes() for file in path.parent.glob(path.name + "*")]
        return {text for content in files for text in re.findall(rb"secret [a-z]{3}", content)}

    assert len(found(path.with_name("plain.db"))) == 11  # else the search finds nothing anywhere
    assert found(path) == set()
    store.close()
    plain.close()
    assert len(found(path.with_name("plain.db"))) == 11
    assert found(path) == set()


def test_equal_bodies_are_stored_as_different_bytes(store):
    """A digest in the open would tell which texts are equal."""
    store.commit(Batch(blobs=[blob(1, 1), blob(2, 1)], entries=[entry(1, 0, b"x"), entry(2, 0, b"x")]))
    for column in ("digest", "body"):
        rows = sql(store, f"SELECT DISTINCT {column} FROM blob")
        assert len(rows) == 2
    assert len(sql(store, "SELECT DISTINCT body FROM entry")) == 2


class Recorder:
    """Hides nothing, but sees all."""

    def __init__(self):
        self.places = []

    def encode(self, data, where):
        self.places.append(where)
        return data

    def decode(self, data, where):
        assert where in self.places
        return data


def test_places_are_named_as_they_ever_were():
    """Stored bytes are authenticated with these texts: a changed one makes every store unreadable."""
    codec = Recorder()
    store = CodedStore(MemoryStore(), codec)
    store.open()
    batch = full_batch()
    batch.states = [state(b"", service="Ca/rt", key="ä", name="a b"), state(None)]
    batch.items = [item(3, key="a/b", name="")]
    store.commit(batch)
    assert codec.places == [
        "state///codec",
        "input/1", "outcome/1", "input/2", "entry/1/0", "entry/1/1", "entry/2/0", "outcome/2", "digest/1/7", "blob/1/7",
        "about/p", "about/q", "value/q", "value/p", "state/Ca%2Frt/%C3%A4/a%20b", "item/Cart/a%2Fb//3",
    ]  # fmt: skip
    snapshot(store)  # decodes every one of them by the same name


MOVED = {
    "input": ("UPDATE invocation SET input = (SELECT input FROM invocation WHERE n = 2) WHERE n = 1", "input/1"),
    "outcome": (
        "UPDATE invocation SET outcome = (SELECT outcome FROM invocation WHERE n = 2) WHERE n = 1",
        "outcome/1",
    ),
    "input as outcome": ("UPDATE invocation SET outcome = input WHERE n = 1", "outcome/1"),
    "entries of one journal": ("UPDATE entry SET seq = 9 - seq WHERE n = 1", "entry/1/0"),
    "another's entry": ("UPDATE entry SET body = (SELECT body FROM entry WHERE n = 2) WHERE n = 1", "entry/1/0"),
    "an entry deleted": ("DELETE FROM entry WHERE n = 1 AND seq = 0", "entry/1/0"),
    "blob": ("UPDATE blob SET number = 8", "blob/1/8"),
    "digest": ("UPDATE blob SET digest = body", "digest/1/7"),
    "about": ("UPDATE promise SET about = value WHERE id = 'p'", "about/p"),
    "value": ("UPDATE promise SET value = (SELECT value FROM promise WHERE id = 'q') WHERE id = 'p'", "value/p"),
    "state": ("UPDATE state SET key = 'bob' WHERE key = 'ann'", "state/Cart/bob/items"),
    "item": ("UPDATE item SET idx = 1", "item/Cart/ann/items/1"),
}


def look(store):
    """Asks for every body there is; the places of those that do not decode."""
    found = []

    def attempt(call):
        try:
            call()
        except Unreadable as error:
            found.append(re.search(r"did not decode (\S+): ", str(error))[1])

    for row in store.list():
        attempt(lambda row=row: check(row.input))
        attempt(lambda row=row: check(row.outcome or b""))
        attempt(lambda row=row: store.entries(row.n))
        attempt(lambda row=row: store.blob_digests(row.n))
        attempt(lambda row=row: store.blobs(row.n, 0, 99))
    for row in store.promises_of(1):
        attempt(lambda row=row: check(row.about))
        attempt(lambda row=row: check(row.value or b""))
    for key in store.object_keys("Cart", "", 9):
        attempt(lambda key=key: store.state("Cart", key, "items"))
    attempt(lambda: store.items("Cart", "ann", "items", 0, 9))
    return found


@pytest.mark.parametrize("name", MOVED)
def test_a_body_that_was_moved_does_not_decode_and_the_others_do(store, name):
    text, where = MOVED[name]
    store.commit(full_batch())
    assert look(store) == []
    sql(store, text)
    assert set(look(store)) - {"digest/1/8"} == {where}  # a digest is moved with its blob
    assert [row.n for row in store.list()] == [2, 1]
    assert store.get(1).n == store.find("inv-1").n == 1
    assert store.promise("p").id == "p"


def test_whoever_decodes_what_stands_in_for_a_body_is_told_why_it_is_lost(store):
    store.commit(full_batch())
    for table, column in (
        ("invocation", "input"),
        ("invocation", "outcome"),
        ("promise", "about"),
        ("promise", "value"),
    ):
        sql(store, f"UPDATE {table} SET {column} = x'00'")
    row, question = store.get(1), store.promise("p")
    for decode, body, where in (
        (records.decode_outcome, row.outcome, "outcome/1"),
        (records.decode_info, question.about, "about/p"),
        (lambda body: unpack(body, None), row.input, "input/1"),
        (lambda body: unpack(body, None), question.value, "value/p"),
    ):
        with pytest.raises(Unreadable, match=f"did not decode {where}: ValueError: wrong tag") as raised:
            decode(body)
        assert "another key" in raised.value.cause


def test_another_key_is_refused_at_open_and_changes_nothing(store, path):
    store.commit(full_batch())
    store.close()
    before = path.read_bytes()
    other = CodedStore(SqliteStore(path), Sealed(b"other key"))
    for _ in range(2):
        with pytest.raises(StoreForeign, match="another codec: ValueError: wrong tag"):
            other.open()
    store.open()  # the lock was let go of
    assert store.get(1).input == b"secret input"
    store.close()
    assert len(before) == len(path.read_bytes())


def test_a_codec_that_decodes_to_something_else_is_refused(store, path):
    class Blind(Sealed):
        def _tag(self, nonce, data, where):
            return bytes(16)

    store.close()
    sealed = CodedStore(SqliteStore(path.with_name("blind.db")), Blind())
    sealed.open()
    sealed.close()
    with pytest.raises(StoreForeign, match="something else"):
        CodedStore(SqliteStore(path.with_name("blind.db")), Blind(b"other key")).open()


@pytest.mark.parametrize(
    "batch", [Batch(starts=[start(1)]), Batch(states=[StateRow("", "schedule", "daily", b"every day")])]
)
def test_a_store_that_began_without_a_codec_is_refused(path, batch):
    plain = SqliteStore(path)
    plain.open()
    plain.commit(batch)
    plain.close()
    with pytest.raises(StoreForeign, match="without a codec"):
        CodedStore(SqliteStore(path), Sealed()).open()
    plain.open()
    assert plain.state(*CODED) is None
    plain.close()


def test_the_proof_is_no_state_of_anybody(store):
    assert store.state(*CODED) is None
    assert store._below.state(*CODED) is not None


def test_a_batch_that_does_not_encode_stops_the_store_until_it_is_opened_again(store):
    class Broken(Sealed):
        def encode(self, data, where):
            raise OSError("no answer from the vault")

    store.commit(Batch(starts=[start(1)]))
    store._codec = Broken()
    for call in (
        lambda: store.commit(Batch(entries=[entry(1, 0)])),
        lambda: store.commit(Batch()),
        lambda: store.get(1),
        lambda: store.maintain(True),
        store.list,
    ):
        with pytest.raises(StoreFailed, match="no answer from the vault"):
            call()
    store._codec = Sealed()
    store.close()
    store.open()
    assert store.get(1) == start(1)
    assert store.entries(1) == []


def test_a_batch_may_be_committed_again_after_a_full_disk(path):
    class FullOnce(Wrapped):
        full = False

        def commit(self, batch):
            if self.full:
                self.full = False
                raise StoreFull("no space")
            self.inner.commit(batch)

    below = FullOnce(SqliteStore(path))
    store = CodedStore(below, Sealed())
    store.open()
    below.full = True
    batch = full_batch()
    with pytest.raises(StoreFull):
        store.commit(batch)
    assert batch == full_batch()
    store.commit(batch)
    assert store.get(1).input == b"secret input"
    store.close()


def test_a_backup_is_encoded_too(store, tmp_path):
    store.commit(full_batch())
    list(store.backup(tmp_path / "copy.db"))
    assert b"secret" not in (tmp_path / "copy.db").read_bytes()
    copy = CodedStore(SqliteStore(tmp_path / "copy.db"), Sealed())
    copy.open()
    assert snapshot(copy) == snapshot(store)
    copy.close()


def test_the_cipher_in_the_documentation_hides_binds_and_refuses(tmp_path):
    code = re.search(r"```python\n(import os\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec("from cryptography.exceptions import InvalidTag\n" + code[1], names)
    codec = names["Sealed"](bytes(32))
    sealed = codec.encode(b"secret", "entry/1/0")
    assert b"secret" not in sealed
    assert codec.decode(sealed, "entry/1/0") == b"secret"
    for wrong, where, data in (
        (codec, "entry/1/1", sealed),
        (names["Sealed"](bytes(31) + b"\1"), "entry/1/0", sealed),
        (codec, "entry/1/0", sealed[:-1] + b"\0"),
        (codec, "entry/1/0", b""),
    ):
        with pytest.raises((names["InvalidTag"], ValueError)):
            wrong.decode(data, where)
    store = CodedStore(SqliteStore(tmp_path / "agent.db"), codec)
    store.open()
    store.commit(full_batch())
    assert look(store) == []
    store.close()
    with pytest.raises(StoreForeign, match="InvalidTag"):
        CodedStore(SqliteStore(tmp_path / "agent.db"), names["Sealed"](bytes(31) + b"\1")).open()
