"""Names and numbers of things.

An invocation has an id (text, chosen by the caller or made here, time-ordered) and a number `n`, its key in every
table. The low six bits of `n` are the invocation's partition, fixed by its id: rows can be spread over machines
later without changing a key. A step's id is `branch/name#count`: the branch is the path of task creation, the count
is how often that name was asked for in that branch, from 1. Two tasks can therefore never take each other's results,
whatever order they run in.
"""

from __future__ import annotations

import hashlib
import zlib

from holdfast.errors import BadArguments

PARTITION_BITS = 6
PARTITIONS = 1 << PARTITION_BITS
ID_CHARS_MAX = 200  # long enough for a URL slug and a tenant, short enough for an index page

SIGNAL_CHARS_MAX = 100
MADE = "inv_"  # begins the ids of invocations that Holdfast made

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's, in ASCII order: text order is number order


def partition_of(id: str) -> int:
    """The partition of an invocation, 0 to 63, from its id alone."""
    return zlib.crc32(id.encode()) & (PARTITIONS - 1)


def number(counter: int, id: str) -> int:
    """The number of the counter-th invocation of a store."""
    return counter << PARTITION_BITS | partition_of(id)


def counter_of(n: int) -> int:
    """The counter a number was made from."""
    return n >> PARTITION_BITS


def make_id(now_ms: int, entropy: int) -> str:
    """A new id that sorts by time: 48 bits of milliseconds, 72 bits of entropy."""
    value = (now_ms & (1 << 48) - 1) << 72 | entropy & (1 << 72) - 1
    return MADE + "".join(_ALPHABET[value >> shift & 31] for shift in range(115, -1, -5))


def secret_name(prefix: str, seed: int, id: str, local: str, reopened: int = 0) -> str:
    """A name for something inside an invocation: the same in every process, not to be guessed by others.

    `reopened`: how often the invocation had been opened again when it was asked for.

    The seed comes from real entropy and is stored with the invocation, so two stores that use the same invocation id
    never share a promise id or an idempotency key.
    """
    key = (seed & (1 << 64) - 1).to_bytes(8, "big")
    name = f"{id}\0{local}" if not reopened else f"{id}\0{local}\0{reopened}"
    return prefix + hashlib.blake2b(name.encode(), digest_size=16, key=key).hexdigest()


def idempotency_key(seed: int, id: str, local: str, reopened: int) -> str:
    """What a step is known by to those it asks for something."""
    return secret_name("hf_", seed, id, local, reopened)


def check_id(id: str) -> str:
    """The id itself. Raises BadArguments if it is empty, too long or not printable."""
    given: object = id
    if not isinstance(given, str) or not 0 < len(id) <= ID_CHARS_MAX or not id.isprintable():
        shown = repr(id)[:60]
        raise BadArguments(
            f"{shown} cannot be an invocation id",
            cause=f"an id is 1 to {ID_CHARS_MAX} printable characters",
            fix="use a short text such as 'trip-17', or leave the id out and one is made",
        )
    return id


def signal_id(name: str) -> str:
    """What a wait for a signal is called within the invocation, without its branch and count."""
    return f"signal {name}"


def signal_of(local: str) -> str:
    """The signal's name in the id of a wait for it."""
    return local.rpartition("/")[2].removeprefix(signal_id("")).rpartition("#")[0]


def check_signal_name(name: str) -> str:
    """The name itself. Raises BadArguments if it cannot be a signal's."""
    given: object = name
    if (
        isinstance(given, str)
        and 0 < len(given) <= SIGNAL_CHARS_MAX
        and given.isprintable()
        and not set(given) & set("/#")
    ):
        return given
    raise BadArguments(
        f"{name!r:.60} cannot be the name of a signal",
        fix=f"give 1 to {SIGNAL_CHARS_MAX} printable characters without '/' and '#'",
    )


def spread(id: str) -> int:
    """A number that differs between invocations but never between processes: the base of their tasks' hashes.

    Without a base of its own each invocation's tasks would hash to 0, 1, 2, and asyncio's one global set of tasks
    would turn quadratic. Never to be changed: the order of sets, and so the path of a replay, follows from it.
    """
    data = id.encode()
    return zlib.adler32(data) << 32 | zlib.crc32(data)
