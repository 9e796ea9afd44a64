"""Every engine test runs on both stores, and none may leave an error in asyncio's log: a callback of the engine that
raises loses what it was to do, and the log is the only place where that shows."""

import logging

import pytest

from holdfast import Limits
from tests.engine.world import SlowStore, World

WEATHERS = {
    "kept": {},
    "parked": {"limits": Limits(waiting=0)},
    "parked and slow": {"limits": Limits(waiting=0), "wrap": SlowStore},
}


@pytest.fixture(params=["memory", "sqlite"])
def world(request, tmp_path):
    return World(request.param, tmp_path)


@pytest.fixture
def memory_world(tmp_path):
    """For what cannot depend on the store."""
    return World("memory", tmp_path)


@pytest.fixture(autouse=True)
def quiet_asyncio(caplog):
    yield
    records = caplog.get_records("call")
    lost = [record.getMessage() for record in records if record.name == "asyncio" and record.levelno >= logging.ERROR]
    assert lost == []


@pytest.fixture(params=WEATHERS)
def weather(request):
    """Callers that stay in memory or are parked, commits that are quick or take a while."""
    return WEATHERS[request.param]
