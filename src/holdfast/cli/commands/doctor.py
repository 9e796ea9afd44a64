"""doctor: whether this machine, this file and this server are in order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import typer
from rich.console import RenderableType
from rich.text import Text

from holdfast.cli import machine
from holdfast.cli.codes import Exit
from holdfast.cli.command import command
from holdfast.cli.link import connect, stranger
from holdfast.cli.loading import load_app
from holdfast.cli.machine import Finding
from holdfast.cli.problems import CommandFailed
from holdfast.cli.render.words import clean, span
from holdfast.cli.screen import Screen
from holdfast.cli.where import Where
from holdfast.cli.wire import Info
from holdfast.errors import AppNotLoaded, Unreachable

PANEL = "Operate"
STYLES = {"ok": "green", "note": "yellow", "bad": "bold red"}
INGRESS_PORT, ADMIN_PORT = 8080, 9070


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "doctor", PANEL)(doctor)


async def doctor(where: Where, screen: Screen) -> Exit:
    """Looks over the machine, the store and the server. Changes nothing."""
    findings = [machine.python(), machine.sqlite(), machine.token(where.token)]
    info, server = await _server(where)
    findings += server
    path = _store(where, info)
    if path is not None:
        findings += machine.store(path)
    if info is None:
        findings += [machine.port("port", INGRESS_PORT), machine.port("admin port", ADMIN_PORT)]
    if screen.json:
        screen.raw(msgspec.json.encode(findings))
    else:
        screen.say(picture(findings))
    return Exit.FAILED if any(finding.state == "bad" for finding in findings) else Exit.OK


def picture(findings: list[Finding]) -> RenderableType:
    """One line each, and the next step below where there is one."""
    lines = Text()
    for finding in findings:
        lines.append(f"{finding.state:<5} ", STYLES[finding.state])
        lines.append(f"{finding.name:<12} {clean(finding.text)}\n")
        if finding.fix:
            lines.append(f"      next step: {clean(finding.fix)}\n")
    lines.rstrip()
    return lines


async def _server(where: Where) -> tuple[Info | None, list[Finding]]:
    if where.url is None:
        return None, []
    try:
        async with connect(replace(where, app=None, store=None)) as link:
            info = (await link.get("/info", Info)).value
    except CommandFailed as failure:
        problem = failure.problem
        if where.fallback and problem.code == Unreachable.code:
            return None, [Finding("server", "note", f"none at {where.url}", "holdfast serve starts one")]
        return None, [Finding("server", "bad", problem.detail or problem.title, problem.next_step)]
    found: list[Finding] = []
    if where.fallback:
        try:
            other = stranger(where, info)
        except AppNotLoaded as error:
            found.append(Finding("app", "bad", error.what, error.fix))
        else:
            if other is not None:
                return None, [Finding("server", "note", other.what, other.fix)]
    return info, found + _serving(where, info)


def _serving(where: Where, info: Info) -> list[Finding]:
    build = f", build {info.build}" if info.build else ""
    found = [Finding("server", "ok", f"holdfast {info.version}{build} at {where.url}, up {span(info.uptime_seconds)}")]
    counts = ", ".join(f"{count} {status}" for status, count in info.counts.items() if count)
    found.append(Finding("invocations", "ok", counts or "none"))
    if paused := info.counts.get("paused"):
        found.append(Finding("paused", "note", f"{paused} wait for a person", "holdfast list --status paused"))
    return found


def _store(where: Where, info: Info | None) -> Path | None:
    """The file on this machine; None when the store is elsewhere."""
    if where.store is not None:
        return where.store
    if info is not None:
        path = Path(info.store)
        return path if info.store and path.is_absolute() and path.exists() else None
    return load_app(where.app).store_path if where.app is not None else None
