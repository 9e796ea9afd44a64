"""In a real terminal: forms, questions, colour."""

from collections.abc import Iterator

import pytest

from tests.cli.project import Project, Terminal

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with Project(tmp_path_factory.mktemp("served")) as project:
        project.serve()
        yield project


def ask_of(project: Project, id: str) -> str:
    project.until_status(id, "suspended")
    found: str = next(ask["id"] for ask in project.json("asks") if ask["invocation"] == id)
    return found


def test_yes_or_no(served: Project) -> None:
    served.ask("send", "Desk/approve", "amount=120", "--id", "approve-1")
    terminal = Terminal(served, "answer", ask_of(served, "approve-1"))
    terminal.until("yes or no: ")
    assert "Pay 120 euros?" in terminal.seen
    assert '"amount": 120' in terminal.seen
    terminal.type("perhaps")
    terminal.until("expected yes or no")
    terminal.type("y")
    assert terminal.end() == 0
    assert "answered: true" in terminal.seen
    assert served.until_status("approve-1", "done")["output"] == "yes"


def test_a_form_field_by_field(served: Project) -> None:
    served.ask("send", "Desk/wish", "--id", "wish-1")
    terminal = Terminal(served, "answer", ask_of(served, "wish-1"))
    for prompt, line in (
        ("cost (whole number): ", "much"), ("expected a whole number", ""), ("cost (whole number): ", "120"),
        ("board (number or value): ", "full"), ("note (text, or nothing; Enter for none): ", "a view"),
    ):  # fmt: skip
        terminal.until(prompt)
        if line:
            terminal.type(line)
    assert terminal.end() == 0
    wish = {"cost": 120, "board": "full", "note": "a view"}
    assert served.until_status("wish-1", "done")["output"] == wish


def test_what_only_the_server_can_judge_is_asked_for_again(served: Project) -> None:
    served.ask("send", "Desk/day", "--id", "day-1")
    terminal = Terminal(served, "answer", ask_of(served, "day-1"))
    terminal.until("date: ")
    terminal.type("soon")
    terminal.until("expected a date such as")
    terminal.type("20261224")  # a date of ISO 8601, and none of JSON's schemas
    terminal.until("does not fit promise")
    terminal.until("date: ")
    assert "schema" not in terminal.seen, "the form is what it says"
    terminal.type("2026-12-24")
    assert terminal.end() == 0
    assert served.until_status("day-1", "done")["output"] == "2026-12-24"


def test_one_of_several_questions_is_chosen(served: Project) -> None:
    for number in (1, 2):
        served.ask("send", "Desk/approve", f"amount={number}", "--id", f"several-{number}")
        served.until_status(f"several-{number}", "suspended")
    terminal = Terminal(served, "answer")
    terminal.until("which (1 to 2): ")
    assert "1  Pay 1 euros?  (several-1)" in terminal.seen
    terminal.type("2")
    terminal.until("yes or no: ")
    terminal.type("no")
    assert terminal.end() == 0
    assert served.until_status("several-2", "done")["output"] == "no"
    assert served.ask("kill", "several-1").code == 0


def test_a_closed_terminal_answers_nothing(served: Project) -> None:
    served.ask("send", "Desk/approve", "amount=7", "--id", "closed-1")
    terminal = Terminal(served, "answer", ask_of(served, "closed-1"))
    terminal.until("yes or no: ")
    terminal.type("\x04")  # Ctrl-D
    assert terminal.end() == 2
    assert "nothing was changed" in terminal.seen
    assert served.json("show", "closed-1")["invocation"]["status"] == "suspended"
    assert served.ask("kill", "closed-1").code == 0


def test_purge_by_age_is_asked_about(served: Project) -> None:
    served.ask("call", "Desk/greet", "name=x", "--id", "old-1")
    for line, code, there in (("", 2, 0), ("y", 0, 3)):
        terminal = Terminal(served, "purge", "--older-than", "0s", "--url", served.url)
        terminal.until("(y/N) ")
        terminal.type(line)
        assert terminal.end() == code
        assert served.ask("show", "old-1").code == there


def test_colour_and_json(served: Project) -> None:
    served.ask("call", "Desk/greet", "name=x", "--id", "colour-1")
    terminal = Terminal(served, "list", TERM="xterm-256color")
    assert terminal.end() == 0
    assert "\x1b[32mdone" in terminal.seen
    plain = Terminal(served, "list", TERM="xterm-256color", NO_COLOR="1")
    plain.end()
    assert "\x1b[32m" not in plain.seen
    json = Terminal(served, "list", "--json", TERM="xterm-256color")
    json.end()
    assert "\x1b" not in json.seen
