"""Interruptible coding agent: a new message stops what is under way, and the work begins anew with it.

    python -m examples.b16_interruptible --say "In Rust, please"
    holdfast serve examples.b16_interruptible:hf

A message to a running invocation is a signal, kept until it is received. Work and message race; giving the work up
cancels the step that is under way: a request at the provider is broken off, a tool is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib

from agents import Agent, function_tool

from examples.sdk import CONFIG
from examples.services import dependencies
from examples.terminal import account, options
from holdfast import Context, Holdfast, Service
from holdfast.integrations.openai_agents import run

SECONDS = 1.0  # that the tests take


@function_tool
async def run_tests(program: str) -> str:
    """Runs the tests of a program."""
    await asyncio.sleep(SECONDS)
    return f"{len(program)} characters, all tests pass"


agent = Agent(
    name="Coder", instructions="You are a coding agent. Write the program and run its tests.", tools=[run_tests]
)
coder = Service("Coder")


@coder.handler
async def work(ctx: Context, task: str) -> str:
    """Writes a program; whoever sends the signal "message" amends the task, and "stop" ends it."""
    wishes = [task]
    while True:
        work = asyncio.ensure_future(run(agent, "\n".join(wishes), run_config=CONFIG))
        message = ctx.receive("message", str)
        await asyncio.wait([work, message], return_when=asyncio.FIRST_COMPLETED)
        if not message.done():
            message.cancel()
            return str((await work).final_output)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        wish = await message
        if wish == "stop":
            return f"stopped after {len(wishes)} wishes"
        wishes.append(wish)


hf = Holdfast("b16_interruptible.db", services=[coder], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="program-1", text="Write a program that sorts.", say="what to say while it works")
    with hf as client:
        run_ = client.start(work, given.text, id=given.id)
        if given.say:
            run_.signal("message", given.say)
        print(run_.result())
        account(client, run_)


if __name__ == "__main__":
    main()
