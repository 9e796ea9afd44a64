"""Where a command's words go: answers to stdout, everything beside them to stderr.

Promises: with --json stdout holds JSON and nothing else, and errors are JSON too. Colour only on a terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from rich.console import Console, RenderableType

from holdfast.cli.link import Answer
from holdfast.cli.problems import Problem, as_json
from holdfast.cli.render.words import clean, json_picture

T = TypeVar("T")

PIPE_COLUMNS = 100_000  # a pipe has no width; what reads it wants whole values


class Screen:
    """The two streams of one command."""

    def __init__(self, json: bool) -> None:
        self.json = json
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)

    def show(self, answer: Answer[T], picture: Callable[[T], RenderableType]) -> None:
        """The answer as the server gave it, or its picture."""
        if self.json:
            self.raw(answer.raw)
        else:
            self.say(picture(answer.value))

    def done(self, answer: Answer[Any], text: str) -> None:
        """That it worked: the server's answer for a machine, a line for a person."""
        if self.json:
            self.raw(answer.raw or b"{}")
        else:
            self.say(text)

    def data(self, value: Any) -> None:
        """A value as JSON: on one line for a pipe or --json, spread out on a terminal."""
        if self.json or not self.out.is_terminal:
            self.raw(msgspec.json.encode(value))
        else:
            self.out.print(json_picture(value), soft_wrap=True)

    def raw(self, json: bytes) -> None:
        """A line of JSON."""
        sys.stdout.write(json.decode().rstrip("\n") + "\n")
        sys.stdout.flush()

    def say(self, text: RenderableType) -> None:
        """Part of the answer for a person; nothing with --json."""
        if not self.json:
            self.out.print(clean(text) if isinstance(text, str) else text, markup=False, soft_wrap=True)

    def stream(self, text: str) -> None:
        """A piece of a line that goes on, for a person."""
        self.out.print(clean(text), markup=False, soft_wrap=True, end="")

    def note(self, text: str) -> None:
        """Beside the answer, for a person; nothing with --json."""
        if not self.json:
            self.err.print(clean(text), style="dim", markup=False, soft_wrap=True)

    def ask_line(self, text: RenderableType) -> None:
        """A line of a form: beside the answer, so that a form can be filled in while stdout is a pipe."""
        self.err.print(clean(text) if isinstance(text, str) else text, markup=False, soft_wrap=True)

    def ask(self, prompt: str) -> str:
        """What a person types. Raises EOFError when nobody is there any more."""
        self.err.print(clean(prompt), end="", markup=False)
        return input()

    def fail(self, problem: Problem) -> None:
        """A problem, on stderr."""
        if self.json:
            sys.stderr.write(as_json(problem).decode() + "\n")
            return
        first, _, rest = clean(problem.text()).partition("\n")
        self.err.print(first, style="red", markup=False, soft_wrap=True)
        if rest:
            self.err.print(rest, markup=False, soft_wrap=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_COLUMNS
    return console
