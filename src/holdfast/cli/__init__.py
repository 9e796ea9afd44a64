"""The command line, `holdfast`: everything a person does to a running agent, from a terminal.

Promises: every command has a machine's form (--json), an exit code that docs/cli.md explains, and an error text with
the next step. Refuses: a second way into the store. Commands speak the admin face over HTTP, also to a file.
"""

from __future__ import annotations

import sys

EXTRA = {"typer", "rich", "httpx", "starlette", "uvicorn", "httptools", "watchfiles"}


def main() -> None:
    """The entry point: runs the command line, or says what to install for it."""
    try:
        from holdfast.cli.root import app

        app()
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in EXTRA:
            raise
        sys.exit(f"the command line needs {missing.name}\n  next step: pip install 'holdfast[server]'")
