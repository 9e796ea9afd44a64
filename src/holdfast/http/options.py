"""What a server may be told. Needs nothing but the standard library, so that it can be named without the extra."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.http.limits import HttpLimits


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Where to serve and whom.

    tokens: any of them is accepted as `Authorization: Bearer`; HOLDFAST_TOKEN in the environment is one more.
    tokens_file: SHA-256 hashes of others, one a line.
    hosts: names, beside those of loopback, that requests may be sent to.
    origins: web pages of other origins that may ask.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    admin_host: str = "127.0.0.1"
    admin_port: int = 9070
    tokens: Iterable[str] = ()
    tokens_file: Path | None = None
    hosts: Iterable[str] = ()
    origins: Iterable[str] = ()
    limits: HttpLimits = field(default_factory=HttpLimits)
