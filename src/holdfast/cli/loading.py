"""Imports the Holdfast object that a person named at the command line.

The name comes from them, the environment or their pyproject.toml, never from a store.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

from holdfast.app import Holdfast
from holdfast.errors import AppNotLoaded


def load_app(name: str) -> Holdfast:
    """The object "module:attribute" names, with the working folder on the path. Raises AppNotLoaded."""
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise _failed(
            f"{name!r} names no app", "it is written module:name", 'for `hf = Holdfast(...)` in app.py, say "app:hf"'
        )
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise _import_failed(name, module_name, error) from error
    found = getattr(module, attribute, None)
    if isinstance(found, Holdfast):
        return found
    known = ", ".join(key for key, value in vars(module).items() if isinstance(value, Holdfast))
    raise _failed(
        f"{module_name} has no Holdfast object {attribute!r}" + (f", but: {known}" if known else ""),
        "the name after the colon is the variable that holds it",
        f"name it: {module_name}:{known.partition(', ')[0] or 'hf'}",
    )


def _import_failed(name: str, module: str, error: BaseException) -> AppNotLoaded:
    if isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
        return _failed(
            f"there is no module {module!r}",
            f"it is looked for in {Path.cwd()} and among what is installed",
            "go to the folder that holds it, or check the name",
        )
    what = "".join(traceback.format_exception_only(error)).strip()
    if isinstance(error, SyntaxError):
        return _failed(f"{name} could not be imported: {what}", "the code at that line is no Python", "mend it")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else module
    return _failed(
        f"{name} could not be imported: {what}", f"raised at {place}", "mend it; --debug shows the whole traceback"
    )


def _failed(what: str, cause: str, fix: str) -> AppNotLoaded:
    return AppNotLoaded(what, cause=cause, fix=fix)
