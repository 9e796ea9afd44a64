"""Progress and tokens to watchers: who comes back with the id of the last event it saw misses nothing.

    python -m examples.b15_progress
    holdfast serve examples.b15_progress:hf

`ctx.emit` is durable and told once. The words of the model are told while its call runs, numbered by attempt: when a
call is made again, its words begin again, and the halves of two attempts never mix.
"""

from __future__ import annotations

from agents import Agent

from examples.sdk import CONFIG
from examples.services import dependencies
from examples.terminal import options
from holdfast import Context, Holdfast, Service
from holdfast.integrations.openai_agents import run_streamed

writer = Agent(name="Writer", instructions="You are a writer of reports. Write about the topic.")
critic = Agent(name="Critic", instructions="You are a critic of reports. Say in a sentence what is missing.")
reports = Service("Reports")


@reports.handler
async def write(ctx: Context, topic: str) -> str:
    """A report and what a critic says of it, watched while they are written."""
    text = topic
    for agent in (writer, critic):
        ctx.emit({"begins": agent.name})
        streamed = run_streamed(agent, text, run_config=CONFIG)
        async for _ in streamed.stream_events():
            pass
        text = str(streamed.final_output)
        ctx.emit({"done": agent.name, "words": len(text.split())})
    return text


hf = Holdfast("b15_progress.db", services=[reports], deps=dependencies())


def main() -> None:
    given = options(__doc__, id="report-1", text="Durable execution")
    with hf as client:
        report = client.start(write, given.text, id=given.id)
        for event in report.watch():
            match event.kind:
                case "emit":
                    print(f"\n[{event.id}] {event.data['output']}")
                case "chunk":
                    print(event.data["event"]["delta"], end="", flush=True)
        print(f"\n\n{report.result()}")


if __name__ == "__main__":
    main()
