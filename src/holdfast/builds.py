"""What a program's version is called when nobody names it: a digest of the files its handlers are written in."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from pathlib import Path

from holdfast.service import Handler

VERSION = "0.1.0"


def build_of(handlers: Iterable[Handler]) -> str:
    """Twelve characters that change when a handler's file does; empty when no file can be read."""
    digest = hashlib.sha256()
    files = sorted({inspect.getsourcefile(inspect.unwrap(handler.fn)) or "" for handler in handlers})
    contents = [Path(file).read_bytes() for file in files if file and Path(file).is_file()]
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:12] if contents else ""
