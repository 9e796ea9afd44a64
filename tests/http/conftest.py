"""A server for each file, and no error in any log: what the server logs as an error is a mistake in Holdfast."""

import logging

import pytest

from tests.http.serving import serving


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def quiet(caplog):
    yield
    records = caplog.get_records("call")
    ours = ("asyncio", "uvicorn", "holdfast.http")
    lost = [
        record.getMessage() for record in records if record.levelno >= logging.ERROR and record.name.startswith(ours)
    ]
    assert lost == []
