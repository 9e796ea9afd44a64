"""What handlers of objects and workflows hold beside the rest: a key, its state, a workflow's promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, overload

from holdfast.context import Context
from holdfast.core.commands import SettleShared
from holdfast.core.entries import PromiseInfo
from holdfast.core.machine import Machine
from holdfast.core.state import StateView
from holdfast.core.tasks import Step
from holdfast.errors import BadArguments
from holdfast.service import Handler, Registry
from holdfast.values import MISSING, codec_for, encode_value, schema_of

T = TypeVar("T")

PROMISE_CHARS_MAX = 100


def context_of(
    machine: Machine, deps: Mapping[str, Any], registry: Registry, headers: Mapping[str, str], handler: Handler,
    key: str | None,
) -> Context:  # fmt: skip
    """The context a handler is given."""
    if machine.state is None or key is None:
        return Context(machine, deps, registry, headers)
    kind = WorkflowContext if handler.kind == "workflow" else ObjectContext
    return kind(machine, deps, registry, headers, handler, key, machine.state)


class ObjectContext(Context):
    """The context of an object's handler. State belongs to the object's key: written by one handler at a time, and
    what is written is committed with the step that led to it."""

    def __init__(
        self, machine: Machine, deps: Mapping[str, Any], registry: Registry, headers: Mapping[str, str] | None,
        handler: Handler, key: str, state: StateView,
    ) -> None:  # fmt: skip
        super().__init__(machine, deps, registry, headers)
        self.key = key
        self._handler = handler
        self._state = state

    @overload
    def get(self, name: str, type: type[T], default: None = None) -> T | None: ...

    @overload
    def get(self, name: str, type: type[T], default: T) -> T: ...

    @overload
    def get(self, name: str, type: Any = Any, default: Any = None) -> Any: ...

    def get(self, name: str, type: Any = Any, default: Any = None) -> Any:
        """A value of the state, as `type`; `default` if there is none. Raises Unreadable when it does not fit,
        BadArguments when the name is a list's."""
        text = self._state.get(name)
        return default if text is None else codec_for(type).decode(text)

    def set(self, name: str, value: Any, type: Any = MISSING) -> None:
        """Writes a value, as `type` or as what it is. Raises WrongPlace in a shared handler."""
        self._state.set(name, encode_value(value, type))

    def clear(self, name: str | None = None) -> None:
        """Removes a value or a list; without a name, all of them. Raises WrongPlace in a shared handler."""
        for one in self._state.keys() if name is None else [name]:
            self._state.clear(one)

    def keys(self) -> list[str]:
        """The names of all values and lists, sorted."""
        return self._state.keys()

    def append(self, name: str, value: Any, type: Any = MISSING) -> None:
        """Adds an element to a list, which costs the same however long it is. Raises WrongPlace in a shared handler."""
        self._state.append(name, encode_value(value, type))

    @overload
    def items(self, name: str, type: type[T]) -> list[T]: ...

    @overload
    def items(self, name: str, type: Any = Any) -> list[Any]: ...

    def items(self, name: str, type: Any = Any) -> list[Any]:
        """A list's elements, oldest first, each as `type`; empty if there is none."""
        decode = codec_for(type).decode
        return [decode(text) for text in self._state.items(name)]


class WorkflowContext(ObjectContext):
    """The context of a workflow's handler. Promises with a name belong to the workflow's key: whichever handler asks
    for one waits for the same, and any may settle it."""

    def promise(self, name: str | None = None, *, type: Any = Any) -> Step[Any]:
        """A promise of this workflow by name, or a new one without. Await it for its value; its `.id` is the one to
        resolve over HTTP."""
        if name is None:
            return super().promise(type=type)
        info = PromiseInfo("", schema=schema_of(type))
        return self._machine.share_promise(name, self._promise_id(name), codec_for(type), info)

    def resolve(self, name: str, value: Any = None, type: Any = MISSING) -> None:
        """Settles a promise of this workflow; the first settlement counts (G6)."""
        text = encode_value(value, type)
        self._machine.do(SettleShared(self._promise_id(name), text, ok=True))

    def reject(self, name: str, reason: str) -> None:
        """Settles a promise of this workflow with an error: who waits for it gets a TerminalError."""
        self._machine.do(SettleShared(self._promise_id(name), codec_for(str).encode(reason), ok=False))

    def _promise_id(self, name: str) -> str:
        given: object = name
        if (
            not isinstance(given, str)
            or not 0 < len(given) <= PROMISE_CHARS_MAX
            or not given.isprintable()
            or set(given) & set("/#:")
        ):
            raise BadArguments(
                f"{name!r:.60} cannot be the name of a promise",
                fix=f"give 1 to {PROMISE_CHARS_MAX} printable characters without '/', '#' and ':'",
            )
        return f"{self._handler.service}:{self.key}:{name}"
