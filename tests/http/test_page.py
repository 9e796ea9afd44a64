"""docs/http.md comes true: every request of the page is made, in order, and answered with what stands there.

Compared without what differs from run to run: ids, times, sizes, builds. `python -m tests.http.test_page` prints the
page with what is answered now.
"""

import contextlib
import json
import os
import re
import runpy
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from holdfast.http.limits import HttpLimits
from holdfast.http.options import HttpOptions
from tests.http.serving import Serving, wait_for
from tests.tidy.tree import ROOT

PAGE = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```\n(\$ curl .*?)^```$", re.MULTILINE | re.DOTALL)
PROMISE = re.compile(r"prm_[0-9a-f]{32}")
LINE_CHARS = 110
LINES_MAX = 24
STEADY = (
    (PROMISE, "PROMISE"),
    (re.compile(r"\bhf_[0-9a-f]{32}"), "KEY"),
    (re.compile(r"\d{4}-\d\d-\d\d [0-9:]{8} UTC"), "MOMENT"),
    (re.compile(r"\b(inv|idm)_\w{24,32}"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z"), "TIME"),
    (re.compile(r"TIME\+[0-9a-f]{8}"), "TIME"),
    (re.compile(r"^date: .*$", re.MULTILINE), "DATE"),
    (re.compile(r'"build": ?"[0-9a-f]+"'), "BUILD"),
    (re.compile(r'"(uptime_seconds|bytes|running|resident)": ?[\d.]+'), r'"\1": N'),
    (re.compile(r"^(holdfast_(uptime_seconds|resident|running|admin_\w+)) [\d.]+$", re.MULTILINE), r"\1 N"),
    (re.compile(r'"store": ?"[^"]+"'), "STORE"),
    (re.compile(r"content-length: \d+"), "LENGTH"),
    (re.compile(r'"status":"(ready|suspended|done)"}'), "SOON"),  # how far it has come when it is asked
)


def words_of(line: str) -> tuple[str, str, dict[str, str], bytes | None, bool]:
    """Method, address, headers and body of a curl line, and whether it shows the head of the answer."""
    method, address, headers, body, shows_head = "", "", {}, None, False
    words = iter(shlex.split(line)[1:])
    for word in words:
        match word:
            case "-X":
                method = next(words)
            case "-H":
                name, _, text = next(words).partition(": ")
                headers[name] = text
            case "--json":
                body = next(words).encode()
                headers["Content-Type"] = "application/json"
            case "-d":
                body = next(words).encode()
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            case "-i":
                shows_head = True
            case "-N":
                pass
            case _:
                address = word
    return method or ("GET" if body is None else "POST"), address, headers, body, shows_head


def shown(answer: httpx.Response, *, head: bool) -> str:
    """What curl prints; JSON that is long is indented, and cut."""
    text = answer.text
    if len(text) > LINE_CHARS and "json" in answer.headers["content-type"]:
        text = laid_out(answer.json())
    lines = text.splitlines()
    text = "\n".join([*lines[:LINES_MAX], *(["..."] if len(lines) > LINES_MAX else [])])
    if not head:
        return text
    top = [f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}", *map(": ".join, answer.headers.items())]
    return "\n".join([*top, "", text])


def laid_out(value: object, before: str = "", after: str = "", margin: str = "") -> str:
    """JSON in lines: what fits into one is not broken up."""
    line = margin + before + json.dumps(value, ensure_ascii=False) + after
    if len(line) <= LINE_CHARS or not isinstance(value, dict | list):
        return line
    named = isinstance(value, dict)
    pairs = [(f"{json.dumps(key)}: ", one) for key, one in value.items()] if named else [("", one) for one in value]
    ends = [","] * (len(pairs) - 1) + [""]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    inside = [laid_out(one, name, end, margin + "  ") for (name, one), end in zip(pairs, ends, strict=True)]
    return "\n".join([margin + before + opening, *inside, margin + closing + after])


class Play:
    """Makes the page's requests of a running server."""

    def __init__(self, server: Serving) -> None:
        self.server = server
        self.promises: dict[str, str] = {}  # of the page, and of this run

    def request(self, line: str) -> tuple[str, str]:
        """The line with the ids of this run, and the answer."""
        for old in PROMISE.findall(line):
            self.promises.setdefault(old, self._open_promise())
            line = line.replace(old, self.promises[old])
        method, address, headers, body, shows_head = words_of(line)
        host, _, path = address.partition("/")
        client = {"localhost:8080": self.server.ingress, "localhost:9070": self.server.admin}[host]
        answer = client.request(method, "/" + path, headers=headers, content=body)
        self._settle()
        return line, shown(answer, head=shows_head).replace(str(self.server.program.store_path.parent), "/srv/desk")

    def _open_promise(self) -> str:
        return wait_for(lambda: self.server.admin.get("/asks").json())[-1]["id"]

    def _settle(self) -> None:
        wait_for(lambda: not self.server.admin.get("/invocations?status=ready").json()["invocations"])


def played(server: Serving) -> str:
    """The page with what is answered."""
    play = Play(server)

    def block(match: re.Match[str]) -> str:
        lines = re.findall(r"^\$ (curl .*)$", match[1], flags=re.MULTILINE)
        parts = ["$ {}\n{}".format(*play.request(line)) for line in lines]
        return "```\n" + "\n".join(part.rstrip("\n") for part in parts) + "\n```"

    return BLOCK.sub(block, PAGE)


def steady(text: str) -> list[str]:
    for pattern, name in STEADY:
        text = pattern.sub(name, text)
    return text.splitlines()


@contextlib.contextmanager
def desk(folder: Path) -> Iterator[Serving]:
    with contextlib.chdir(folder):  # where the program makes its store
        program = runpy.run_path(str(ROOT / "tests" / "http" / "desk.py"))["hf"]
        with Serving(program, HttpOptions(port=0, admin_port=0)).running() as server:
            yield server


@pytest.fixture
def server(tmp_path):
    with desk(tmp_path) as running:
        yield running


def test_every_request_of_the_page_is_answered_as_it_says(server):
    found, wanted = steady(played(server)), steady(PAGE)
    assert [pair for pair in zip(found, wanted, strict=True) if pair[0] != pair[1]] == []


def test_every_route_has_its_request_on_the_page(server):
    asked = []
    for block in BLOCK.findall(PAGE):
        for line in re.findall(r"^\$ (curl .*)$", block, flags=re.MULTILINE):
            method, address, *_ = words_of(line)
            port, _, path = address.partition("?")[0].partition("/")
            asked.append((port, method, f"/{path}"))
    missing = []
    for port, client in (("localhost:8080", server.ingress), ("localhost:9070", server.admin)):
        for path, methods in client.get("/openapi.json").json()["paths"].items():
            if re.match("/(Claims|Chat|Trip)/", path):
                continue  # handlers: one of each kind is enough
            pattern = re.compile(re.sub(r"{\w+}", "[^/]+", path))
            shared = path.startswith(("/invocations/", "/promises/")) or path in {"/health", "/openapi.json", "/"}
            missing += [
                (port, method.upper(), path)
                for method in methods
                if not any(
                    method.upper() == one and pattern.fullmatch(at) and (shared or at_port == port)
                    for at_port, one, at in asked
                )
            ]
    assert missing == []


def test_the_table_of_statuses_is_that_of_the_code():
    from holdfast import errors
    from holdfast.http import refusals
    from holdfast.http.problems import status_of

    rows = re.findall(r"^\| (\d{3}) \| (.+?) \|", PAGE.partition("## Errors")[2], re.MULTILINE)
    told = {code: int(status) for status, codes in rows for code in re.findall(r"HF\d{3}", codes)}
    named = (thing for thing in {**vars(errors), **vars(refusals)}.values() if isinstance(thing, type))
    kinds = [kind for kind in named if issubclass(kind, errors.HoldfastError)]
    for kind in kinds:
        if kind.code in told and kind is not errors.TerminalError:
            assert told[kind.code] == status_of(kind.__new__(kind)), kind.code
    assert {kind.code for kind in kinds if issubclass(kind, refusals.RequestError)} - set(told) == {"HF600"}


def test_the_limits_of_the_page_are_those_of_the_code():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d,.]+)", PAGE, re.MULTILINE))
    limits = HttpLimits()
    assert rows.keys() == set(HttpLimits.__slots__)
    assert {name: float(text.replace(",", "")) for name, text in rows.items()} == {
        name: getattr(limits, name) / (1024 * 1024 if name in {"body_bytes", "bodies_bytes"} else 1)
        for name in HttpLimits.__slots__
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as somewhere, desk(Path(somewhere)) as page_server:
        sys.stdout.write(played(page_server))
        sys.stdout.flush()
    os._exit(0)
