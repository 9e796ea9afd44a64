"""The engine's machine, and what went through it: the path a handler took, to be compared with every other life's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from holdfast.core.commands import (
    AppendItem,
    CancelCall,
    CancelOther,
    CancelStep,
    Command,
    SendCall,
    SendSignal,
    SetState,
    SettleShared,
    WithdrawPromise,
)
from holdfast.core.entries import (
    Emitted,
    ItemsRead,
    StateRead,
    StepCompleted,
    StepErrored,
    StepUnknown,
    TimerFired,
)
from holdfast.core.machine import Machine

if TYPE_CHECKING:
    from tests.sim.world import Life


class Segment:
    """What an entry made the handler ask for. The first one has no entry: it is the handler's beginning."""

    __slots__ = ("asked", "commands", "deadline", "entry", "wrong")

    def __init__(self, entry: Any, deadline: int | None) -> None:
        self.entry = entry
        self.deadline = deadline  # of the next timer, before the entry came
        self.commands: list[str] = []
        self.asked: list[Command] = []  # of a replay after the end
        self.wrong = ""


class Watched(Machine):
    """A machine that keeps its path."""

    born: ClassVar[Any] = None

    def __init__(self, id: str, **options: Any) -> None:
        self.path: list[Segment] = [Segment(None, None)]
        self.fate = ""  # dropped, or died with what the store did not take
        self.life: Life | None = None
        self.told: dict[str, Any] = {}  # notes, by id
        self.born_at = 0  # commit
        self.died_of: BaseException | None = None
        super().__init__(id, **options)

    def begin(self, handler: Any, *args: Any, **kwargs: Any) -> None:
        if Watched.born is not None:
            Watched.born(self)
        super().begin(handler, *args, **kwargs)

    def _apply(self, entry: Any, value: Any) -> None:
        segment = Segment(entry, self.next_deadline())
        if isinstance(entry, (StepCompleted, StepErrored, StepUnknown)):
            step = self.waiting.get(entry.step)
            if step is None or step.spec is None or step.spec.digest != entry.digest:
                segment.wrong = f"{entry.step} was recorded, and is not asked for with these arguments"
        elif isinstance(entry, TimerFired):
            timer = self.loop.timers.get(entry.timer)
            if timer is None:
                segment.wrong = f"{entry.timer} fired, and is not set"
            elif entry.at / 1000 < timer.when():
                segment.wrong = f"{entry.timer} fired at {entry.at}, before {timer.when()}"
        self.path.append(segment)
        super()._apply(entry, value)

    def _ask(self, name: str, codec: Any, kind: str = "step") -> Any:
        step = super()._ask(name, codec, kind)
        self._mark(f"ask {step.local}")
        return step

    def do(self, deed: Any) -> None:
        super().do(deed)
        self._mark(deed_text(deed))

    def note(self, name: str, make: Any) -> Any:
        note = super().note(name, make)
        self.told[note.note] = note
        self._mark(self._note_text(note))
        return note

    def version(self, name: str, latest: int) -> int:
        version = super().version(name, latest)
        if version:  # code that knows of no change does not ask
            self._mark(f"version {name} {version}")
        return version

    def abandon(self, step: Any) -> None:
        if step.local in self.waiting:
            self._mark(f"drop {step.local}")
        super().abandon(step)

    def evict(self) -> None:
        if not self.fate:
            self.fate = "died" if self.life is not None and self.life.is_losing() else "dropped"
        super().evict()

    def _dead(self, fault: Any) -> Any:
        self.died_of = fault
        return super()._dead(fault)

    def _note_text(self, note: Any) -> str:
        match note:
            case StateRead():
                return f"read {note.note} {None if note.value is None else self.read(note.value)!r}"
            case Emitted():
                return f"emit {note.note} {self.read(note.value)!r}"
            case ItemsRead():
                return f"list {note.note} {note.first} {note.end}"
        raise AssertionError(note)

    def _mark(self, what: str) -> None:
        if not self.fate:
            self.path[-1].commands.append(what)


def deed_text(deed: Any) -> str:
    """What a handler wants done, in one line."""
    match deed:
        case SendCall(spec):
            return f"send {spec.id} {spec.handler.target} {spec.key} {spec.text!r} {spec.delay}"
        case SendSignal(id, name, text):
            return f"signal {id} {name} {text!r}"
        case CancelOther(id, _):
            return f"cancel {id}"
        case CancelCall(local, id):
            return f"cancel call {local} {id}"
        case SettleShared(id, text, ok):
            return f"settle {id} {text!r} {ok}"
        case SetState(name, text):
            return f"set {name} {text!r}"
        case AppendItem(name, text):
            return f"append {name} {text!r}"
        case CancelStep(local) | WithdrawPromise(local):
            return f"drop {local}"
    raise AssertionError(deed)
