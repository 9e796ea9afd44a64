"""The program behind test_sessions_killed.py: agents as services and objects, served over HTTP, on the offline
model and its stand-ins. Started as a process of its own: `python -m tests.http.sessions_app FOLDER PORT ADMIN_PORT`."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx

from holdfast import Context, Holdfast, Object, ObjectContext, Retry, Service, TerminalError
from holdfast.http.options import HttpOptions

OFFLINE = os.environ["OFFLINE_URL"]
DEADLINE_SECONDS = float(os.environ.get("DEADLINE_SECONDS", "3"))
HEADERS = {"Authorization": "Bearer offline-key-no-secret"}
SOON = Retry(max_attempts=200, initial=0.05, max_delay=0.1)

weather = Service("WeatherAgent")
claims = Service("HumanClaimApprovalAgent")
timed_claims = Service("HumanClaimApprovalWithTimeoutsAgent")
chat = Object("Chat")


async def ask_model(messages: list[dict[str, Any]], tools: list[str]) -> dict[str, Any]:
    offered = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in tools]
    body: dict[str, Any] = {"model": "offline", "messages": messages}
    if offered:
        body["tools"] = offered
    async with httpx.AsyncClient(headers=HEADERS, timeout=None) as web:
        answer = await web.post(f"{OFFLINE}/v1/chat/completions", json=body)
    answer.raise_for_status()
    said: dict[str, Any] = answer.json()["choices"][0]["message"]
    return {name: value for name, value in said.items() if value}


async def get_weather(city: str) -> str:
    async with httpx.AsyncClient() as web:
        answer = await web.get(f"{OFFLINE}/v1/current.json", params={"key": "offline-key-no-secret", "q": city})
    if answer.status_code == 400:
        raise TerminalError(f"no weather for {city}")
    answer.raise_for_status()
    now = answer.json()["current"]
    return f"{now['condition']['text']}, {now['temp_c']} degrees"


async def loop(ctx: Context, prompt: str, message: str, tools: dict[str, Any]) -> str:
    messages: list[dict[str, Any]] = [{"role": "system", "content": prompt}, {"role": "user", "content": message}]
    while True:
        said = await ctx.run(ask_model, messages, list(tools))
        messages.append(said)
        calls = said.get("tool_calls", [])
        if not calls:
            return str(said["content"])
        for call in calls:
            function = call["function"]
            result = await tools[function["name"]](**json.loads(function["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})


@weather.handler
async def run(ctx: Context, message: str) -> str:
    async def look(city: str) -> str:
        return await ctx.run(get_weather, city, retry=SOON)

    return await loop(ctx, "You are a weather agent.", message, {"get_weather": look})


def approval(service: Service, seconds: float | None) -> None:
    """Two services with a handler of the same name and another patience."""

    @service.handler
    async def run(ctx: Context, message: str) -> str:
        async def human_approval(amount: int) -> str:
            try:
                async with asyncio.timeout(seconds):
                    approved = await ctx.ask(f"Approve a claim of {amount} USD?", bool, about=message)
            except TimeoutError:
                return "nobody answered in time: declined"
            return "approved" if approved else "declined"

        return await loop(ctx, "You are an insurance claim agent.", message, {"human_approval": human_approval})


approval(claims, None)
approval(timed_claims, DEADLINE_SECONDS)


@chat.handler
async def message(ctx: ObjectContext, message: str) -> str:
    ctx.append("messages", {"role": "user", "content": message})
    said = await ctx.run(ask_model, ctx.items("messages"), [])
    ctx.append("messages", said)
    return str(said["content"])


@chat.handler(shared=True)
async def get_history(ctx: ObjectContext) -> list[dict[str, Any]]:
    return ctx.items("messages")


def main() -> None:
    folder, port, admin_port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    hf = Holdfast(folder / "agents.db", services=[weather, claims, timed_claims, chat])
    hf.serve(HttpOptions(port=port, admin_port=admin_port))


if __name__ == "__main__":
    main()
