"""`python -m examples.offline --port 0`: the offline services as a process; its first line is their URL."""

from __future__ import annotations

import argparse
import contextlib

from examples.offline.server import OfflineServer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.offline", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every answer")
    options = parser.parse_args()
    server = OfflineServer(port=options.port, latency=options.latency)
    print(server.url, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()


if __name__ == "__main__":
    main()
