"""python -m benchmarks.child_model TURNS: a model over HTTP for workload sdk, in a process of its own.

It speaks the Responses API as the stock client of the Agents SDK does, and says what its talker says.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from benchmarks.children import tell
from benchmarks.talkers import Talker

USAGE = {
    "input_tokens": 100, "output_tokens": 10, "total_tokens": 110,
    "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
}  # fmt: skip


async def main(turns: int) -> None:
    talker = Talker("look", turns)

    async def respond(request: Request) -> Response:
        said = await talker.get_response(None, json.loads(await request.body())["input"])
        return JSONResponse({
            "id": "r", "created_at": 0, "model": "m", "object": "response", "parallel_tool_calls": True,
            "tool_choice": "auto", "tools": [], "output": [item.model_dump(mode="json") for item in said.output],
            "usage": USAGE,
        })  # fmt: skip

    app = Starlette(routes=[Route("/v1/responses", respond, methods=["POST"])])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tell(port=listener.getsockname()[1])
        await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve([listener])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
