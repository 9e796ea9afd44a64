"""A file as the first version of Holdfast left it, made by its own migration and plain SQL."""

from holdfast.core.invocation import Status
from holdfast.stores.sqlite import opening
from tests.stores.rows import TARGETS, blob, entry, promise, start

ROWS = [
    start(1),
    start(2, status=Status.SUSPENDED, wake_at=90, target=TARGETS[2]),
    start(3, status=Status.SUSPENDED),
    start(4, status=Status.PAUSED, outcome=b"why"),
    start(5, status=Status.DONE, outcome=b"end"),
    start(6, status=Status.FAILED, outcome=b"end", target=TARGETS[2]),
    start(7, status=Status.CANCELLED, outcome=b"end"),
]
ENTRIES = [entry(row.n, seq) for row in ROWS for seq in range(3)]
BLOBS = [blob(1, -1), blob(1, 1)]
PROMISES = [promise("open", 2), promise("shut", 2, status=1, settled=3, value=b"yes")]


def make(path, monkeypatch):
    """Sleepers, journals, large values and promises of schema 1."""
    with monkeypatch.context() as patch:
        first = opening.load_migrations()[:1]
        patch.setattr(opening, "load_migrations", lambda: first)
        patch.setitem(opening.QUERIES, "count_open", "INSERT INTO meta (key, value) VALUES ('opens', 1)")
        connection = opening.open_writer(path, None)
    for table, columns, rows in (
        ("invocation", "n, id, target, status, created, updated, seed, wake_at, input, outcome", ROWS),
        ("entry", "n, seq, body", ENTRIES),
        ("blob", "owner, number, digest, body", BLOBS),
        ("promise", "id, n, created, about, status, settled, value", PROMISES),
    ):
        count = columns.count(",") + 1
        marks = ", ".join("?" * count)
        connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", [row[:count] for row in rows])
    connection.close()
