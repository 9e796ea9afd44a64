"""Which server, app or store a command talks to.

Promises: what a flag names is used or refused, never passed over. Without a flag it is the server that listens, and
when none does, the app or store that the environment or pyproject.toml names.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import BadCommand

DEFAULT_URL = "http://127.0.0.1:9070"


@dataclass(frozen=True, slots=True)
class Where:
    """The answer. `url` is tried first, unless it is None; with `fallback` the app or store is used when nobody listens
    there, and whoever does must have that store."""

    url: str | None
    token: str | None
    app: str | None
    store: Path | None
    fallback: bool


def settle(url: str | None, app: str | None, store: Path | None, environ: Mapping[str, str], folder: Path) -> Where:
    """From the flags, the environment and the pyproject.toml of the folder. Raises BadCommand when the flags
    contradict each other, or the URL is none."""
    if url is not None and (app is not None or store is not None):
        raise BadCommand(
            f"--url and {'--app' if store is None else '--store'} name different places",
            fix="give one: --url for a running server, --app or --store when none runs",
        )
    token = environ.get("HOLDFAST_TOKEN") or None
    if app is not None or store is not None:
        return Where(None, token, app, store, fallback=False)
    if asked := url or environ.get("HOLDFAST_URL"):
        if not asked.startswith(("http://", "https://")):
            raise BadCommand(
                f"{asked!r} is no URL of a server",
                cause="it begins with http:// or https://",
                fix=f"name it with --url or HOLDFAST_URL, such as {DEFAULT_URL}",
            )
        return Where(asked.rstrip("/"), token, None, None, fallback=False)
    named = environ.get("HOLDFAST_APP") or configured_app(folder)
    path = environ.get("HOLDFAST_STORE")
    return Where(DEFAULT_URL, token, named, Path(path) if path and not named else None, fallback=True)


def configured_app(folder: Path) -> str | None:
    """What [tool.holdfast] of pyproject.toml names as `app`."""
    path = folder / "pyproject.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadCommand(f"{path} cannot be read: {error}", fix="mend it, or name the app with --app") from None
    app = table.get("tool", {}).get("holdfast", {}).get("app")
    if app is None or isinstance(app, str):
        return app
    raise BadCommand(f"{path}: [tool.holdfast] app is {app!r}", fix='write it as text: app = "app:hf"')


def require_app(app: str | None) -> str:
    """The app's name, given or configured. Raises BadCommand when there is none."""
    found = app or os.environ.get("HOLDFAST_APP") or configured_app(Path.cwd())
    if found:
        return found
    raise BadCommand(
        "no app is named",
        cause='it is the Holdfast object of your program, as "module:name"',
        fix='give it as an argument, in HOLDFAST_APP, or in pyproject.toml: [tool.holdfast] app = "app:hf"',
    )
