"""Which server, app or store is meant: flags are obeyed, never passed over."""

from pathlib import Path

import pytest

from holdfast import errors
from holdfast.cli.codes import Exit, exit_of
from holdfast.cli.loading import load_app
from holdfast.cli.problems import from_answer, from_error
from holdfast.cli.where import DEFAULT_URL, settle
from holdfast.errors import AppNotLoaded, BadCommand

CONFIG = '[tool.holdfast]\napp = "mine:hf"\n'


def test_without_anything_it_is_the_default_server(tmp_path: Path) -> None:
    where = settle(None, None, None, {}, tmp_path)
    assert (where.url, where.app, where.store, where.fallback) == (DEFAULT_URL, None, None, True)


def test_what_is_configured_is_used_when_no_server_listens(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(CONFIG)
    where = settle(None, None, None, {"HOLDFAST_TOKEN": "t", "HOLDFAST_STORE": "a.db"}, tmp_path)
    assert (where.url, where.app, where.store, where.token) == (DEFAULT_URL, "mine:hf", None, "t")
    assert settle(None, None, None, {"HOLDFAST_APP": "other:hf"}, tmp_path).app == "other:hf"
    (tmp_path / "pyproject.toml").write_text("")
    assert settle(None, None, None, {"HOLDFAST_STORE": "a.db"}, tmp_path).store == Path("a.db")


def test_a_named_server_has_no_fallback(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(CONFIG)
    for where in (
        settle("http://a/", None, None, {}, tmp_path),
        settle(None, None, None, {"HOLDFAST_URL": "http://a"}, tmp_path),
    ):
        assert (where.url, where.app, where.fallback) == ("http://a", None, False)


def test_a_named_app_or_store_asks_no_server(tmp_path: Path) -> None:
    environ = {"HOLDFAST_URL": "http://a"}
    assert settle(None, "app:hf", None, environ, tmp_path).url is None
    assert settle(None, None, Path("a.db"), environ, tmp_path).url is None
    both = settle(None, "app:hf", Path("a.db"), environ, tmp_path)
    assert (both.app, both.store) == ("app:hf", Path("a.db"))


def test_flags_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCommand, match="--url and --store"):
        settle("http://a", None, Path("a.db"), {}, tmp_path)


def test_an_address_without_a_scheme_is_no_url(tmp_path: Path) -> None:
    for url, environ in (("127.0.0.1:9070", {}), (None, {"HOLDFAST_URL": "localhost:9070"})):
        with pytest.raises(BadCommand, match=r"(?s)9070' is no URL.*http://"):
            settle(url, None, None, environ, tmp_path)


@pytest.mark.parametrize("text,what", [("[tool", "cannot be read"), ("[tool.holdfast]\napp = 1", "app is 1")])
def test_a_broken_pyproject_is_told(text: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(BadCommand, match=what):
        settle(None, None, None, {}, tmp_path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    return tmp_path


def test_an_app_is_found_in_the_working_folder(folder: Path) -> None:
    (folder / "cli_good.py").write_text("from holdfast import Holdfast, MemoryStore\nmine = Holdfast(MemoryStore())\n")
    assert type(load_app("cli_good:mine")).__name__ == "Holdfast"
    with pytest.raises(AppNotLoaded, match=r"(?s)has no Holdfast object 'hf', but: mine.*name it: cli_good:mine"):
        load_app("cli_good:hf")


@pytest.mark.parametrize(
    "name,source,what",
    [
        ("app", "", "'app' names no app"),
        (":hf", "", "names no app"),
        ("cli_nowhere:hf", "", "there is no module 'cli_nowhere'"),
        ("cli_bad1:hf", "import surely_not_installed\n", "No module named 'surely_not_installed'"),
        ("cli_bad2:hf", "x = 1\ny = {}['a']\n", r"(?s)KeyError: 'a'.*cli_bad2.py:2"),
        ("cli_bad5:hf", "import sys\nsys.exit(3)\n", r"(?s)SystemExit: 3.*cli_bad5.py:2"),
        ("cli_bad6:hf", "import surely_not_installed\n", r"cli_bad6.py:1"),
        ("cli_bad3:hf", "def f(:\n", r"(?s)cli_bad3.py\", line 1.*SyntaxError.*that line is no Python"),
        ("cli_bad4:hf", "hf = 1\n", "has no Holdfast object 'hf'"),
    ],
)
def test_an_app_that_cannot_be_loaded_says_why(name: str, source: str, what: str, folder: Path) -> None:
    (folder / f"{name.partition(':')[0]}.py").write_text(source) if source else None
    with pytest.raises(AppNotLoaded, match=what):
        load_app(name)


@pytest.mark.parametrize(
    "status,code,exit",
    [
        (404, "HF104", Exit.NOT_FOUND), (409, "HF111", Exit.CONFLICT), (400, "HF102", Exit.USAGE),
        (413, "HF202", Exit.USAGE), (429, "HF113", Exit.UNREACHABLE), (401, "HF604", Exit.UNREACHABLE),
        (503, "HF506", Exit.UNREACHABLE), (507, "HF401", Exit.UNREACHABLE), (408, "HF609", Exit.TIMEOUT),
        (500, "HF503", Exit.FAILED), (409, "HF504", Exit.FAILED), (409, "HF505", Exit.FAILED),
        (404, "HF501", Exit.FAILED),
    ],
)  # fmt: skip
def test_how_an_answer_becomes_an_exit_code(status: int, code: str, exit: Exit) -> None:
    assert exit_of(status, code) is exit


@pytest.mark.parametrize(
    "error,exit",
    [
        (errors.BadCommand, Exit.USAGE), (errors.AppNotLoaded, Exit.USAGE), (errors.UnknownHandler, Exit.NOT_FOUND),
        (errors.UnknownPromise, Exit.NOT_FOUND), (errors.StoreLocked, Exit.UNREACHABLE),
        (errors.Unreachable, Exit.UNREACHABLE), (errors.TimedOut, Exit.TIMEOUT),
    ],
)  # fmt: skip
def test_how_an_error_of_this_process_becomes_an_exit_code(error: type[errors.HoldfastError], exit: Exit) -> None:
    failure = from_error(error("what", cause="why", fix="how"))
    assert failure.exit is exit
    assert (failure.problem.code, failure.problem.fix, failure.problem.title) == (error.code, "how", error.__name__)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"status": "x"}'])
def test_an_answer_of_something_else_is_told_apart(body: bytes) -> None:
    failure = from_answer(404, body, "http://a")
    assert failure.exit is Exit.UNREACHABLE
    assert "nothing Holdfast says" in str(failure)


@pytest.mark.parametrize(
    "code,fix",
    [
        ("HF105", "holdfast asks"), ("HF503", "holdfast show run-1"), ("HF505", "holdfast resume run-1"),
        ("HF601", "--url"), ("HF604", "HOLDFAST_TOKEN"),
    ],
)  # fmt: skip
def test_the_next_step_is_one_of_the_terminal_and_json_stays_as_it_came(code: str, fix: str) -> None:
    failure = from_answer(
        404,
        b'{"title": "x", "detail": "y", "code": "%b", "fix": "send z", "invocation": "run-1"}' % code.encode(),
        "http://a",
    )
    assert fix in str(failure)
    assert "send z" not in str(failure)
    assert failure.problem.fix == "send z"


def test_what_says_the_next_step_already_is_not_given_another() -> None:
    failed = b'{"title": "x", "detail": "it failed\\n  next step: mend it", "code": "HF503", "fix": ""}'
    assert str(from_answer(500, failed, "http://a")).count("next step:") == 1
