"""A folder with an app, its real server processes, and the real command line over them."""

import contextlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

from typer.testing import CliRunner, Result

from holdfast.cli.root import app

APP = Path(__file__).with_name("app.py")
HOLDFAST = [sys.executable, "-m", "holdfast.cli"]
PATIENCE_SECONDS = 60.0


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def problem(self) -> Any:
        return json.loads(self.err)


class Project:
    """A folder with app.py; `with` ends what was started in it."""

    def __init__(self, folder: Path, source: str | None = None) -> None:
        self.folder = folder
        self.ports = (free_port(), free_port())
        self.url = f"http://127.0.0.1:{self.ports[1]}"
        self.started: list[subprocess.Popen[str]] = []
        (folder / "app.py").write_text(APP.read_text() if source is None else source)
        (folder / "pyproject.toml").write_text('[tool.holdfast]\napp = "app:hf"\n')

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def environ(self, **more: str) -> dict[str, str]:
        known = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
        return known | {"COLUMNS": "120", "TERM": "dumb"} | more

    def run(self, *words: str, stdin: str = "", **environ: str) -> Done:
        """A command, to its end."""
        done = subprocess.run(
            [*HOLDFAST, *words], cwd=self.folder, input=stdin, capture_output=True, text=True,
            timeout=PATIENCE_SECONDS, env=self.environ(**environ),
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def ask(self, *words: str, stdin: str = "", **environ: str) -> Done:
        """A command to the server of this project."""
        return self.here(*words, stdin=stdin, HOLDFAST_URL=self.url, **environ)

    def here(self, *words: str, stdin: str = "", **environ: str) -> Done:
        """A command in this process: a new one takes half a second to start."""
        done = self._invoke(words, stdin, environ)
        return Done(done.exit_code, done.stdout, done.stderr)

    def screen(self, *words: str, **environ: str) -> str:
        """Both streams of a command to the server of this project, as they come."""
        return self._invoke(words, "", {"HOLDFAST_URL": self.url, **environ}).output

    def _invoke(self, words: tuple[str, ...], stdin: str, environ: dict[str, str]) -> Result:
        known = self.environ(**environ)
        absent = dict.fromkeys(os.environ.keys() - known.keys())
        with contextlib.chdir(self.folder):
            done = CliRunner().invoke(app, words, input=stdin, env={**absent, **known})
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    def json(self, *words: str) -> Any:
        """What a command answers in JSON; it must succeed."""
        done = self.ask(*words, "--json")
        assert done.code == 0, done
        return done.json

    def start(self, *words: str, **options: Any) -> "subprocess.Popen[str]":
        """A command that goes on. Its stderr goes to the file err.log."""
        with (self.folder / "err.log").open("a") as log:
            process = subprocess.Popen(
                [*HOLDFAST, *words], cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=log,
                stdin=subprocess.DEVNULL, env=self.environ(**options),
            )  # fmt: skip
        self.started.append(process)
        return process

    def serve(self, *words: str, command: str = "serve", **environ: str) -> "subprocess.Popen[str]":
        """A server on this project's ports, once it answers."""
        ports = ("--port", str(self.ports[0]), "--admin-port", str(self.ports[1]))
        process = self.start(command, *words, *ports, **environ)
        self.until_up(process)
        return process

    def until_up(self, process: "subprocess.Popen[str]") -> None:
        until(lambda: listens(self.ports[1]) or process.poll() is not None)
        assert process.poll() is None, (self.folder / "err.log").read_text()

    def err(self) -> str:
        return (self.folder / "err.log").read_text()

    def until_status(self, id: str, *words: str) -> dict[str, Any]:
        """The invocation, once it has one of these statuses."""
        found: dict[str, Any] = {}

        def there() -> bool:
            done = self.ask("show", id, "--json")
            found.update(done.json["invocation"] if done.code == 0 else {"status": done.err})
            return found["status"] in words

        until(there)
        return found


class Terminal:
    """A command in a terminal, as a person sees it."""

    def __init__(self, project: Project, *words: str, **environ: str) -> None:
        self._fd, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*HOLDFAST, *words], cwd=project.folder, stdin=slave, stdout=slave, stderr=slave,
            env=project.environ(HOLDFAST_URL=project.url, **environ), start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.seen = ""
        self._place = 0

    def until(self, text: str) -> None:
        """Reads until it is on the screen, below what was waited for before."""
        end = time.monotonic() + PATIENCE_SECONDS
        while (found := self.seen.find(text, self._place)) < 0:
            assert time.monotonic() < end, self.seen
            if select.select([self._fd], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self._fd, 4096).decode()
                except OSError:  # the other side is closed
                    assert text in self.seen[self._place :], self.seen
        self._place = found + len(text)

    def type(self, line: str) -> None:
        os.write(self._fd, line.encode() + b"\n")

    def end(self) -> int:
        """The exit code, once everything is read."""
        code = self.process.wait(PATIENCE_SECONDS)
        while select.select([self._fd], [], [], 0)[0]:
            try:
                self.seen += os.read(self._fd, 4096).decode()
            except OSError:
                break
        os.close(self._fd)
        return code


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(told: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not told():
        assert time.monotonic() < end
        time.sleep(0.05)


def kill(process: "subprocess.Popen[str]") -> None:
    """As a power cut, or the kernel, ends it."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def stop(process: "subprocess.Popen[str]") -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(PATIENCE_SECONDS)
