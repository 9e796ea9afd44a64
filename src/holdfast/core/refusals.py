"""What a handler's loop refuses: everything of an event loop that would reach outside its journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast.errors import HandlerIO

if TYPE_CHECKING:
    from holdfast.core.loop import HandlerLoop

REFUSED = (
    "create_connection",
    "create_server",
    "create_datagram_endpoint",
    "create_unix_connection",
    "create_unix_server",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "start_tls",
    "sendfile",
    "subprocess_exec",
    "subprocess_shell",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_connect",
    "sock_accept",
    "sock_sendfile",
    "getaddrinfo",
    "getnameinfo",
    "add_reader",
    "remove_reader",
    "add_writer",
    "remove_writer",
    "add_signal_handler",
    "remove_signal_handler",
    "run_forever",
    "run_until_complete",
    "stop",
    "close",
    "shutdown_asyncgens",
    "shutdown_default_executor",
    "set_default_executor",
    "set_task_factory",
    "set_debug",
    "set_exception_handler",
    "get_exception_handler",
)


def refused(call: str, where: str) -> HandlerIO:
    """The error for I/O in handler code."""
    return HandlerIO(
        f"{call} in a handler, outside a step, {where}",
        cause="a network client, socket or subprocess used directly in handler code: on replay it would run again",
        fix="put the call into a function and run it as a step: await ctx.run(function, ...)",
    )


def refuse_io(loop: type[HandlerLoop]) -> None:
    """Gives the loop its refusals. They note the fault too, for an SDK may swallow what is raised."""
    for name in REFUSED:
        setattr(loop, name, _refuse(name))


def _refuse(name: str) -> Callable[..., Any]:
    def refuse(self: HandlerLoop, *_: Any, **__: Any) -> Any:
        self.check_alive()
        self.fault = self.fault or refused(f"loop.{name}()", self.where())
        raise self.fault

    refuse.__name__ = name
    return refuse
