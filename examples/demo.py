"""`make demo`: a travel assistant is killed in the middle of a turn and started again, and the cost is counted.

Nothing here is made up: the requests are counted by the offline services, which run in a process of their own, the
steps are read from the journal, and the demo fails when a finished step was paid for twice.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.a1_travel_assistant import trips
from examples.offline import Fault, OfflineAdmin, Request
from holdfast import Holdfast

TRIP = "rome-1"
ANSWER = "At most 120 euros, and pasta."
CHAT = "/v1/chat/completions"
STEPS = {CHAT: "ask_model", "/search": "search_internet", "/content": "scrape_website"}
KILLED_TURN = 2  # the third model call: the two searches and the page of the turns before are done
HELD_SECONDS = 60.0  # the model "thinks" so long that the kill surely comes first
LATENCY_SECONDS = 0.1


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, offline_services() as services:
        db = Path(folder) / "trips.db"
        print(f"Trip {TRIP!r}, model and tools at {services.url}, journal in {db}\n")
        first = first_life(services, db)
        killed_ms = time.time_ns() // 1_000_000
        second_life(services, db)
        account = Account(first, services.requests()[len(first) :], *steps(db, killed_ms))
    account.show()
    for problem in (problems := account.problems()):
        print(f"WRONG: {problem}")
    return 1 if problems else 0


def first_life(services: OfflineAdmin, db: Path) -> list[Request]:
    """Starts the assistant and kills it while a model call is in flight. The requests up to then."""
    services.order(Fault("slow", path=CHAT, turn=KILLED_TURN, seconds=HELD_SECONDS))
    with assistant(services, db) as child:
        print(f"First life, process {child.pid}:")
        services.wait_for(lambda log: any(request.fault and request.outcome == "open" for request in log))
        child.kill()
        child.wait()
    log = services.wait_for(lambda log: all(request.outcome != "open" for request in log))
    show(log)
    print("  killed with SIGKILL: no clean-up, no flush, nothing in memory is left\n")
    return log


def second_life(services: OfflineAdmin, db: Path) -> None:
    """Starts the same command again, answers the question, and lets it end."""
    seen = len(services.requests())
    with assistant(services, db) as child:
        print(f"Second life, process {child.pid}, the same command:")
        assert child.stdin is not None
        assert child.stdout is not None
        question = next((line.strip() for line in child.stdout if "asks:" in line), "")
        show(services.requests()[seen:])
        print(f"  {question}\n  You: {ANSWER}")
        seen = len(services.requests())
        rest, _ = child.communicate(ANSWER + "\n", timeout=30)
        show(services.requests()[seen:])
        plan = (rest.strip().splitlines() or ["(nothing)"])[-1].removeprefix("> ")
        print(f"  {plan}\n")


def show(log: list[Request]) -> None:
    """Requests, one a line."""
    for request in log:
        tokens = request.prompt_tokens + request.completion_tokens
        cost = f"{tokens:5} tokens" if tokens else ""
        state = "in flight" if request.outcome == "gone" else request.outcome
        print(f"  {STEPS.get(request.path, request.path):16} {state:9} {cost}")


def steps(db: Path, killed_ms: int) -> tuple[int, int]:
    """How many steps the journal had recorded before the kill, and how many it has recorded since."""
    with Holdfast(str(db), services=[trips]) as client:
        lines = client.attach(TRIP).journal()
    ended = [line.finished.timestamp() * 1000 for line in lines if line.kind == "step" and line.finished]
    before = sum(at <= killed_ms for at in ended)
    return before, len(ended) - before


@dataclass(frozen=True, slots=True)
class Account:
    """What both lives cost."""

    first: list[Request]
    second: list[Request]
    steps_before: int
    steps_after: int

    @property
    def finished(self) -> Counter[tuple[str, str]]:
        """What was asked and answered before the kill."""
        return Counter((request.path, request.digest) for request in self.first if request.outcome == "answered")

    @property
    def in_flight(self) -> set[tuple[str, str]]:
        """What was asked and not answered before the kill."""
        return {(request.path, request.digest) for request in self.first if request.outcome == "gone"}

    @property
    def again(self) -> list[tuple[str, str]]:
        """What the second life asked although the first had asked it."""
        asked = self.in_flight | self.finished.keys()
        return [what for request in self.second if (what := (request.path, request.digest)) in asked]

    @property
    def paid_twice(self) -> int:
        """Finished requests that were made once more."""
        return sum(what in self.finished for what in self.again)

    def show(self) -> None:
        both = self.first + self.second
        model = [request for request in both if request.path == CHAT]
        saved = sum(r.prompt_tokens + r.completion_tokens for r in self.first if r.outcome == "answered")
        names = Counter(STEPS[path] for path, _ in self.finished)
        done = ", ".join(f"{count} x {name}" for name, count in names.items())
        repeated = ", ".join(STEPS[path] for path, _ in self.again) or "none"
        print(f"steps done before the kill   {self.steps_before}  ({done})")
        print(f"replayed from the journal    {self.steps_before - self.paid_twice}  without a request")
        print(f"run again                    {len(self.again)}  ({repeated}: in flight at the kill)")
        print(f"run after that               {self.steps_after - len(self.again)}")
        print(f"requests the model saw       {len(model)}  ({len({r.digest for r in model})} different ones)")
        print(f"tokens not paid twice        {saved}")

    def problems(self) -> list[str]:
        """What a durable engine must not let happen."""
        found = []
        if not self.finished or len(self.in_flight) != 1:
            found.append(f"the kill hit {len(self.in_flight)} requests after {len(self.finished)}, not one in mid-turn")
        if self.paid_twice:
            found.append(f"{self.paid_twice} finished requests were made again")
        if sorted(self.again) != sorted(self.in_flight):
            found.append("not exactly what was in flight at the kill ran again")
        if self.steps_before != self.finished.total():
            found.append(f"{self.finished.total()} requests were answered, {self.steps_before} steps recorded")
        if self.steps_after != len(self.second) or any(r.outcome != "answered" for r in self.second):
            found.append("the second life did not come to its end in one go")
        return found


@contextmanager
def offline_services() -> Iterator[OfflineAdmin]:
    """The offline model and tools as a process of their own, so that the kill cannot touch their count."""
    command = [sys.executable, "-m", "examples.offline", "--latency", str(LATENCY_SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield OfflineAdmin(process.stdout.readline().strip())
        finally:
            process.kill()


@contextmanager
def assistant(services: OfflineAdmin, db: Path) -> Iterator[subprocess.Popen[str]]:
    """The travel assistant, as a user would start it."""
    command = [sys.executable, "-m", "examples.a1_travel_assistant", "--trip", TRIP, "--db", str(db)]
    named = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    with subprocess.Popen(
        command,
        env={**named, "OFFLINE_URL": services.url, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


if __name__ == "__main__":
    sys.exit(main())
