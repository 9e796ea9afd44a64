"""With a key the examples ask the model that the key is for, whichever client they use. Nobody else gets the key."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.examples.conftest import SECRET
from tests.tidy.tree import ROOT


@pytest.mark.parametrize("example", ["b1_weather_agent", "d1_chaining", "f2_langgraph"])
def test_the_model_of_the_key_is_asked_and_nobody_else_told(example, server, tmp_path):
    named = {"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": f"{server.url}/v1/", "OPENAI_MODEL": "theirs"}
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{example}"],
        cwd=tmp_path,
        env={**os.environ, **named, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert {(request.model, request.outcome) for request in server.requests()} == {("theirs", "answered")}
    assert "Tracing" not in done.stderr, "traces with that key would go to OpenAI"
    assert not [file for file in tmp_path.iterdir() if SECRET.encode() in file.read_bytes()]
