"""Catches handler code that would do I/O or hold the loop.

Promises: in a handler, a connection, a subprocess or a send on a warm connection is refused before any byte leaves,
by name and line; a handler that holds the loop is reported while it does. Refuses: to look at anything but handlers;
outside of one, every hook here is a single comparison.

The loop itself refuses what goes through it (core.loop). This file stands before what does not: sync sockets,
subprocesses, and clients whose connections belong to the main loop. Files may be read: they are not paid for.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
import socket
import ssl
import sys
import threading
import time
from asyncio import selector_events, sslproto
from collections.abc import Callable
from types import FrameType
from typing import Any

from holdfast import core
from holdfast.core.loop import HandlerLoop
from holdfast.core.patches import running
from holdfast.core.refusals import refused

REFUSED_EVENTS = frozenset({
    "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg",
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.spawn",
})  # fmt: skip

CORE = core.__path__[0]

log = logging.getLogger("holdfast")
_installed = False


def install_guard() -> None:
    """Puts the hooks in place, once a process: an audit hook cannot be taken away again."""
    global _installed  # noqa: PLW0603  # the audit hook is process-wide, and so is this
    if _installed:
        return
    _installed = True
    sys.addaudithook(_audit)
    _guard(selector_events._SelectorSocketTransport, "write", "writelines")  # type: ignore[attr-defined]
    _guard(sslproto._SSLProtocolTransport, "write", "writelines")
    _guard(socket.socket, "send", "sendall", "recv", "recv_into")
    _guard(ssl.SSLSocket, "send", "sendall", "recv", "recv_into", "read", "write")


def _audit(event: str, _args: tuple[Any, ...]) -> None:
    if event in REFUSED_EVENTS:
        loop = running()
        if loop is not None and not loop.is_dead():
            raise _refuse(loop, event)


def _guard(owner: type, *names: str) -> None:
    for name in names:
        setattr(owner, name, _guarded(getattr(owner, name), f"{owner.__name__.lstrip('_')}.{name}"))


def _guarded(original: Callable[..., Any], call: str) -> Callable[..., Any]:
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        loop = running()
        if loop is not None and not loop.is_dead():
            raise _refuse(loop, call)
        return original(self, *args, **kwargs)

    guarded.__name__ = guarded.__qualname__ = original.__name__
    guarded.__doc__ = original.__doc__
    return guarded


def _refuse(loop: HandlerLoop, call: str) -> BaseException:
    loop.fault = loop.fault or refused(call, loop.where())
    return loop.fault


class Watchdog:
    """Reports a handler that holds the loop, from a thread of its own, once each time it happens.

    It cannot be stopped: Python code that does not yield can only be named. A loop that is late and waits in its
    selector is held by nobody: the process was stopped, or the machine is busy.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._thread_id = threading.get_ident()
        self._beat = time.monotonic()
        self._handle: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="holdfast-watchdog", daemon=True)

    def start(self) -> None:
        """Begins to watch the current thread. With 0 seconds there is no watch."""
        if not self._seconds:
            return
        self._pulse()
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch."""
        self._stopped.set()
        if self._handle is not None:
            self._handle.cancel()

    def _pulse(self) -> None:
        self._beat = time.monotonic()
        self._handle = self._loop.call_later(self._seconds / 4, self._pulse)

    def _watch(self) -> None:
        reported = 0.0
        while not self._stopped.wait(self._seconds / 2):
            beat = self._beat
            if beat == reported or time.monotonic() - beat <= self._seconds:
                continue
            frame = sys._current_frames().get(self._thread_id)
            if frame is not None and frame.f_code.co_filename == selectors.__file__:
                continue  # it waits, so nothing holds it: the whole machine stood still, or it was let go just now
            reported = beat
            log.error("%s", self._report(frame))

    def _report(self, frame: FrameType | None) -> str:
        return (
            f"[HF302] the event loop has been held for more than {self._seconds:g} s {_handler_line(frame)}\n"
            "  likely cause: a handler computes, sleeps with time.sleep or waits for a lock without yielding; every "
            "other invocation waits\n"
            "  next step: put the work into a function and run it as a step: await ctx.run(function, ...)"
        )


def _handler_line(frame: FrameType | None) -> str:
    # The outermost frame above the handler's loop is the handler; the innermost is what it is doing. Frames of the loop
    # itself, and of what drives generators, are neither.
    innermost = frame
    handler = None
    while frame is not None:
        if frame.f_code is HandlerLoop.run.__code__ and handler is not None:
            return f"by handler code {_line(handler)}" + ("" if innermost is handler else f", now {_line(innermost)}")
        if not frame.f_code.co_filename.startswith(CORE):
            handler = frame
        frame = frame.f_back
    return _line(innermost)


def _line(frame: FrameType | None) -> str:
    if frame is None:
        return "at an unknown place"
    return f"at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
