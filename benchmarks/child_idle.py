"""python -m benchmarks.child_idle DATABASE: a server over a file full of sleepers; says its address."""

from __future__ import annotations

import asyncio
import sys

from benchmarks.child_sleepers import bench
from benchmarks.children import tell
from holdfast import Holdfast, HttpOptions
from holdfast.http.server import Servers, serve


def ready(servers: Servers) -> None:
    tell(address=servers.ingress_url.removeprefix("http://"))


if __name__ == "__main__":
    asyncio.run(serve(Holdfast(sys.argv[1], services=[bench]), HttpOptions(port=0, admin_port=0), ready))
