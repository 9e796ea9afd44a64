"""python -m benchmarks.child_http HOST PORT PATH CLIENTS COUNT: clients of workload http, in a process of their own.

Each client has one connection, kept alive, and sends its next request when the answer is there. Bare asyncio streams:
an HTTP client library would take more CPU than the server that is measured, on the same machine.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator

from benchmarks.children import tell
from benchmarks.measure import quantile

WARM_UP = 200


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, number: int) -> bytes:
    """One call; its result's JSON. Raises RuntimeError for anything but 200."""
    body = b'{"number":%d}' % number
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n" + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(answer.decode())
    length = answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return await reader.readexactly(int(length))


async def client(host: str, port: int, path: str, numbers: Iterator[int], seconds: list[float]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    for number in numbers:  # one iterator for all clients
        begin = time.perf_counter()
        result = await ask(reader, writer, path, number)
        seconds.append(time.perf_counter() - begin)
        if result != b"%d" % (number + 1):
            raise RuntimeError(f"{number} gave {result!r}")
    writer.close()
    await writer.wait_closed()


async def load(host: str, port: int, path: str, clients: int, count: int) -> tuple[float, list[float]]:
    """Wall seconds of all requests, and of each."""
    numbers = iter(range(count))
    seconds: list[float] = []
    begin = time.perf_counter()
    await asyncio.gather(*(client(host, port, path, numbers, seconds) for _ in range(clients)))
    return time.perf_counter() - begin, seconds


async def main(host: str, port: int, path: str, clients: int, count: int) -> None:
    await load(host, port, path, clients, WARM_UP)
    tell(warm=WARM_UP)
    sys.stdin.readline()  # the server marks its CPU here
    cpu = -time.process_time()
    wall, seconds = await load(host, port, path, clients, count)
    cpu += time.process_time()
    tell(
        rate_s=count / wall,
        p50_ms=quantile(seconds, 0.5) * 1e3,
        p99_ms=quantile(seconds, 0.99) * 1e3,
        client_cpu_us=cpu / count * 1e6,
    )


if __name__ == "__main__":
    _, address, number, target, many, amount = sys.argv
    asyncio.run(main(address, int(number), target, int(many), int(amount)))
