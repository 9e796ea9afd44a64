"""No test sends traces anywhere: the exporter has a thread of its own, which would write into the logs of others."""

import pytest
from agents import set_trace_processors

set_trace_processors([])


@pytest.fixture
def anyio_backend() -> str:
    """For the tests that are coroutines."""
    return "asyncio"
