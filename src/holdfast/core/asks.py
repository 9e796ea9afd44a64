"""What a handler asks of its machine: every durable thing it can wait for or want done.

Promises: whatever is asked for gets an id from the place in the tree of tasks it was asked at, the same on every replay
(G3). Refuses: to be used by anything but the handler that runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast.core.commands import (
    Attach,
    CallHandler,
    CallSpec,
    Command,
    Deed,
    FindOut,
    OpenPromise,
    RunStep,
    SharePromise,
    StepSpec,
)
from holdfast.core.entries import Emitted, Note, PromiseInfo, Start, StepBegun, VersionMarked
from holdfast.core.ids import secret_name, signal_id
from holdfast.core.mailbox import Mailbox
from holdfast.core.mismatch import other_start
from holdfast.core.patches import running
from holdfast.core.payload import INLINE
from holdfast.core.refusals import refused
from holdfast.core.tasks import Future, Step
from holdfast.errors import BadArguments, HandlerFault, Unreadable, ValueProblem, WrongPlace

if TYPE_CHECKING:
    from holdfast.core.loop import HandlerLoop

Plan = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], StepSpec]


class Asks:
    """The handler's half of the machine; core.machine has the other."""

    id: str
    seed: int
    at: int
    loop: HandlerLoop
    ended: bool
    replaying: bool
    read: Callable[[bytes], bytes]

    def __init__(self, plan_thread: Plan) -> None:
        self.waiting: dict[str, Step[Any]] = {}  # asked for and not completed, oldest first
        self.reopened = 0  # how often the invocation was opened again
        self.promised = False  # a promise was asked for, now or long ago
        self.mailbox = Mailbox()
        self._plan_thread = plan_thread
        self._commands: list[Command] = []
        self._noted: dict[str, Note] = {}  # by id, from the journal
        self._notes: list[Note] = []  # not in the journal yet
        self._versions: dict[str, int] = {}
        self.begins: dict[str, int] = {}  # how often the bodies of steps declared once have begun
        self.unknown: dict[str, StepBegun] = {}  # those that have begun, and nobody knows what came of them

    def ask_step(self, spec: StepSpec) -> Step[Any]:
        """The handler wants a step run. Raises WrongPlace."""
        self.check_place()
        step = self._ask(spec.name, spec.codec)
        step.spec = spec
        spec.reopened = self.reopened
        if spec.once is not None and self._was_begun(step, spec):
            self._commands.append(FindOut(step.local, spec))
        else:
            self._commands.append(RunStep(step.local, spec))
        return step

    def learn(self, start: Start) -> None:
        """The body of a step declared once has begun, or it is known that nothing came of it."""
        if isinstance(start, StepBegun):
            self.begins[start.note] = start.attempt
            self.unknown[start.note] = start
        else:
            self.unknown.pop(start.note, None)

    def question(self, step: Step[Any]) -> str:
        """The promise by which somebody says what came of a step as it was begun last."""
        name = f"{step.local} {self.begins[step.local]}"
        assert isinstance(step.spec, StepSpec)  # for the type checker: only a step is begun
        step.id = secret_name("prm_", self.seed, self.id, name, step.spec.reopened)
        return step.id

    def ask_promise(self, name: str, codec: Any, info: Callable[[str], PromiseInfo]) -> Step[Any]:
        """The handler wants a promise; `info` says what it is about, given its id here. Raises WrongPlace, and
        BadArguments for a name that could be the id of another task's step."""
        self.check_place()
        if "/" in name or "#" in name:
            raise BadArguments(
                f"{name[:60]!r} cannot be the name of a promise",
                cause="'/' and '#' divide the parts of an id",
                fix="give another name",
            )
        self.promised = True
        promise = self._ask(name, codec, "promise")
        promise.id = self.secret("prm_", promise.local)
        self._commands.append(OpenPromise(promise.local, info(promise.local), promise.id))
        return promise

    def share_promise(self, name: str, id: str, codec: Any, info: PromiseInfo) -> Step[Any]:
        """The handler waits for a promise of its workflow. Raises WrongPlace."""
        self.check_place()
        promise = self._ask(name, codec, "shared")
        promise.id = id
        self._commands.append(SharePromise(promise.local, id, info))
        return promise

    def ask_call(self, plan: Callable[[str], CallSpec], name: str, codec: Any) -> Step[Any]:
        """The handler calls another one; `plan` is given the step's id. Raises WrongPlace."""
        self.check_place()
        step = self._ask(name, codec, "call")
        try:
            step.spec = spec = plan(step.local)
        except BaseException:
            del self.waiting[step.local]
            raise
        step.id = spec.id
        self._commands.append(CallHandler(step.local, spec))
        return step

    def ask_attach(self, id: str, codec: Any) -> Step[Any]:
        """The handler waits for an invocation that is there already. Raises WrongPlace."""
        self.check_place()
        step = self._ask("attach", codec, "attach")
        step.id = id
        self._commands.append(Attach(step.local, id))
        return step

    def ask_signal(self, name: str, codec: Any) -> Step[Any]:
        """The handler wants the next signal of that name. Raises WrongPlace."""
        self.check_place()
        step = self._ask(signal_id(name), codec, "signal")
        payload = self.mailbox.take(name, step)
        if payload is not None:
            self._hand_over(step, payload)
        return step

    def secret(self, prefix: str, local: str) -> str:
        """The name by which the world knows what is asked for now."""
        return secret_name(prefix, self.seed, self.id, local, self.reopened)

    def local_name(self, name: str) -> str:
        """An id for something the handler makes here and does not wait for. Raises WrongPlace."""
        self.check_place()
        return self.loop.branch().name(name)

    def do(self, deed: Deed) -> None:
        """The handler wants something done and does not wait for it. Raises WrongPlace."""
        self.check_place()
        self._commands.append(deed)

    def note(self, name: str, make: Callable[[str], Note]) -> Note:
        """What the journal has noted at this place, or what `make` says now. Raises WrongPlace."""
        local = self.local_name(name)
        noted = self._noted.pop(local, None)
        if noted is None:
            noted = make(local)
            self._notes.append(noted)
        return noted

    def has_come_to(self, note: Note) -> bool:
        """Whether the handler has asked for this note of the journal."""
        return note.note not in self._noted

    def emit(self, text: bytes) -> None:
        """The handler tells its watchers something. Raises WrongPlace."""
        self.note("emit", lambda local: Emitted(self.at, local, INLINE + text))

    def version(self, name: str, latest: int) -> int:
        """Which version of a change this invocation follows: the latest, or 0 if it passed here before there was any.
        Raises WrongPlace."""
        self.check_place()
        if name not in self._versions:
            local = f"version {name}"
            noted = self._noted.pop(local, None)
            if isinstance(noted, VersionMarked):
                self._versions[name] = noted.version
            elif self.replaying:
                self._versions[name] = 0
            else:
                self._versions[name] = latest
                self._notes.append(VersionMarked(self.at, local, latest))
        return self._versions[name]

    def ask_thread(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """asyncio.to_thread in the handler. One whose result cannot be kept is a library's own: I/O in the handler, as
        what follows would be."""
        if _is_probe(fn):
            return self._at_once(fn)
        try:
            spec = self._plan_thread(fn, args, kwargs)
        except ValueProblem:
            name = getattr(fn, "__qualname__", type(fn).__name__)
            self.loop.fault = self.loop.fault or refused(f"asyncio.to_thread({name})", self.loop.where())
            raise self.loop.fault from None
        return self.ask_step(spec)

    def check_place(self) -> None:
        """Raises WrongPlace unless this invocation's handler is what is running."""
        here = running()
        if here is self.loop:
            if not self.ended:
                return
            self.loop.check_alive()
        if self.ended:
            what, fix = "its handler has ended", "keep the context inside the handler"
        elif here is not None:
            what, fix = "another invocation is running", "use the context that was given to that handler"
        else:
            what = "no handler is running: this is a step's body or other code"
            fix = "let the body return its value, and call ctx.run in the handler"
        raise WrongPlace(f"the context of invocation {self.id!r} was used while {what}", fix=fix)

    def stop(self, fault: HandlerFault) -> HandlerFault:
        """The handler cannot go on, whatever it makes of the fault. Raises WrongPlace."""
        self.check_place()
        self.loop.fault = self.loop.fault or fault
        return self.loop.fault

    def _ask(self, name: str, codec: Any, kind: str = "step") -> Step[Any]:
        step: Step[Any] = Step(loop=self.loop)
        step.local = step.id = local = self.loop.branch().name(name)
        step.codec = codec
        step.kind = kind
        self.waiting[local] = step
        return step

    def _was_begun(self, step: Step[Any], spec: StepSpec) -> bool:
        assert spec.once is not None  # for the type checker: the caller has looked
        step.answers = spec.once.answers
        self._noted.pop(step.local, None)
        begun = self.unknown.get(step.local)
        if begun is None:
            return False
        if begun.digest != spec.digest:
            raise self.stop(other_start(step.local))
        if step.answers is not None:
            self.question(step)
        return True

    def _at_once(self, probe: Callable[[], Any]) -> Future[Any]:
        self.check_place()
        answer: Future[Any] = Future(loop=self.loop)
        answer.set_result(probe())
        return answer

    def _hand_over(self, step: Step[Any], payload: bytes) -> None:
        del self.waiting[step.local]
        try:
            self.loop.deliver(step, step.codec.decode(self.read(payload)))
        except Unreadable as error:  # of the sender's making: it ends this wait, and not the invocation
            self.loop.deliver(step, error=error)


def _is_probe(fn: Callable[..., Any]) -> bool:
    """Whether this is how the openai client, and those generated as it is, ask for the name of the machine. A client
    asks once in its life: as a step it would stand in the journal of whichever invocation came first, and another
    process, with another client, would not find it there."""
    return getattr(fn, "__name__", "") == "get_platform" and fn.__module__.endswith("._base_client")
