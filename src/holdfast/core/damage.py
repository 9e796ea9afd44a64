"""Bytes in the place of a body that its codec did not decode, so that the row is shown all the same.

Promises: who decodes them gets the Unreadable that the codec's failure is. Refuses: to be mistaken for a record or a
payload: none begins with MARK.
"""

from __future__ import annotations

from typing import Final

from holdfast.errors import Unreadable

MARK: Final = b"\xff"


def undecoded(what: str) -> Unreadable:
    """The error for a body that a codec did not decode."""
    return Unreadable(
        what,
        cause="the bytes are damaged, were moved from another row, or were written with another key",
        fix="give the codec the key they were written with, or restore a backup; other invocations are not affected",
    )


def stand_in(error: Unreadable) -> bytes:
    """What is handed on instead."""
    return MARK + error.what.encode("utf-8", "backslashreplace")


def check(body: bytes) -> None:
    """Raises the Unreadable a stand-in was made from."""
    if body[:1] == MARK:
        raise undecoded(body[1:].decode(errors="replace"))
