"""Who may ask: tokens, host names, origins.

Promises: tokens are kept and compared as hashes, in constant time; a web page of another origin can neither read nor
start anything, and a name that an attacker points at this machine is not answered (DNS rebinding). Refuses: tokens in
the query, which end up in logs; tokens that can be guessed.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from holdfast.errors import BadArguments
from holdfast.http.refusals import Forbidden, Unauthorised

TOKEN_CHARS_MIN = 16  # of a random text, about 80 bits
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
OPEN_PATHS = frozenset({"/health"})
_PORT = re.compile(r":\d*$")


def hash_of(token: str) -> str:
    """What is kept of a token: its SHA-256, as `printf %s TOKEN | sha256sum` prints it."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_hashes(path: Path) -> list[str]:
    """The hashes in a file: one a line, a note may follow; empty lines and those with # are left out.

    Raises BadArguments.
    """
    hint = "put one hash a line, made by: printf %s TOKEN | sha256sum"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as failure:
        raise BadArguments(f"the file of tokens {path} cannot be read: {failure}", fix=hint) from failure
    hashes = [line.split()[0].lower() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    wrong = [number for number, text in enumerate(hashes, 1) if not re.fullmatch("[0-9a-f]{64}", text)]
    if wrong or not hashes:
        what = f"entry {wrong[0]} is no SHA-256 in hexadecimal" if wrong else "it is empty"
        raise BadArguments(f"the file of tokens {path} cannot be used: {what}", fix=hint)
    return hashes


class Guard:
    """Decides about one request by its headers."""

    def __init__(
        self, *, tokens: Iterable[str] = (), hashes: Iterable[str] = (), hosts: Iterable[str] | None = None,
        origins: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """`hosts`: the names that a request may be sent to, None for any. `origins`: web pages that may ask, such as
        "https://desk.example.com". Raises BadArguments for a token that is too short, and for what is no name or
        origin."""
        given = list(tokens)
        if any(len(token) < TOKEN_CHARS_MIN for token in given):
            raise BadArguments(
                f"a token has less than {TOKEN_CHARS_MIN} characters",
                cause="a short token can be guessed",
                fix="make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'",
            )
        self.hashes = tuple(hash_of(token) for token in given) + tuple(hashes)
        self._hosts = None if hosts is None else frozenset(_host(host) for host in hosts)
        self._origins = frozenset(_origin(origin) for origin in origins)

    def check(self, path: str, method: str, headers: dict[bytes, bytes]) -> None:
        """Raises Forbidden or Unauthorised."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self._hosts is not None and _PORT.sub("", host) not in self._hosts:
            raise Forbidden(
                f"this server is not called {host!r}",
                cause="a name that is not expected may be pointed at this machine by a web page",
                fix=f"use one of: {', '.join(sorted(self._hosts))}; or allow it: holdfast serve --allow-host NAME, "
                "HttpOptions(hosts=[...])",
            )
        if self._foreign(host, headers):
            raise Forbidden(
                "a web page of another origin asks",
                cause="a browser says so (Origin, Sec-Fetch-Site)",
                fix="allow it: holdfast serve --allow-origin ORIGIN, HttpOptions(origins=[...])",
            )
        if self.hashes and path not in OPEN_PATHS and not (method == "OPTIONS" and b"origin" in headers):
            self._check_token(headers.get(b"authorization", b""))

    def allows(self, origin: str) -> bool:
        """True for the origin of a web page that may read answers."""
        return origin.lower() in self._origins

    def _foreign(self, host: str, headers: dict[bytes, bytes]) -> bool:
        origin = headers.get(b"origin")
        if origin is not None:
            text = origin.decode("latin-1").lower()
            return text not in self._origins and urlsplit_host(text) != host
        # Browsers leave Origin out of plain GETs. A link that is followed (navigate) only shows its answer to its user.
        site, mode = headers.get(b"sec-fetch-site"), headers.get(b"sec-fetch-mode")
        return site in {b"cross-site", b"same-site"} and mode != b"navigate"

    def _check_token(self, authorization: bytes) -> None:
        scheme, _, token = authorization.partition(b" ")
        digest = hashlib.sha256(token.strip()).hexdigest()
        # Every hash is compared, so that the time does not tell which one it is.
        known = [hmac.compare_digest(digest, one) for one in self.hashes]
        if scheme.lower() != b"bearer" or not any(known):
            raise Unauthorised(
                "no valid token was sent" if authorization else "this server asks for a token",
                fix="send the header Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": 'Bearer realm="holdfast"'},
            )


def _host(name: str) -> str:
    if re.fullmatch(r"[\w.-]+|\[[0-9a-fA-F:.]+\]", name):
        return name.lower()
    raise BadArguments(
        f"{name!r} is no host name", fix="give the name alone, without scheme and port: agents.example.com"
    )


def _origin(text: str) -> str:
    if re.fullmatch(r"https?://[^/\s*?#@]+/?", text):
        return text.rstrip("/").lower()
    raise BadArguments(
        f"{text!r} is no origin of a web page",
        cause="it is what stands in a browser's address line up to the first single slash",
        fix="write https://desk.example.com, with :PORT if it has one",
    )


def urlsplit_host(origin: str) -> str | None:
    """Host and port of an origin; None for "null" and what is none."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def is_loopback(address: str) -> bool:
    """True if only this machine can reach what is bound to the address."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False
