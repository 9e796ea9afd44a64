"""`python -m tests.examples.child die|finish FOLDER URLS`: one life of every example, over files in the folder.

`die` ends each in its middle, and `finish` goes on with it. Prints, as JSON, what came of each and what it asked for.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from examples.offline import OfflineAdmin
from holdfast.stores.sqlite import SqliteStore
from tests.examples.plays import PLAYS
from tests.examples.survival import History

DIES_AT = 4  # the commit; most examples have more


async def one_life(name: str, phase: str, folder: Path, url: str) -> dict[str, Any]:
    history = History(PLAYS[name], OfflineAdmin(url), SqliteStore(folder / f"{name}.db"))
    before = history.requests()
    if phase == "die":
        told = {"died": await history.die(DIES_AT), "lost": len(history.bodies.keys() - history.recorded())}
    else:
        told = {"seen": await history.live()}
    return {**told, "asked": history.requests() - before}


async def main(phase: str, folder: str, urls: str) -> None:
    told = {}
    for name, url in json.loads(urls).items():
        os.environ["OFFLINE_URL"] = url  # read when the example's clients are opened
        told[name] = await one_life(name, phase, Path(folder), url)
    sys.stdout.write(json.dumps(told, default=str))


if __name__ == "__main__":
    logging.disable()
    asyncio.run(main(*sys.argv[1:]))
