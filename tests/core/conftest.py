"""A handler must not leave noise behind: what asyncio or the loop logs in a test of the core fails it."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _nothing_is_logged(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    if "logs" not in request.fixturenames:
        logged = [record.getMessage() for when in ("setup", "call") for record in caplog.get_records(when)]
        assert logged == []


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """For a test that expects something to be logged."""
    caplog.set_level(logging.DEBUG)
    return caplog
