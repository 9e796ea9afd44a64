"""The state table is the only place where a status changes, and the docs show that table."""

from pathlib import Path

import pytest

from holdfast import WrongStatus
from holdfast.core.invocation import DONE_TO_IT, TRANSITIONS, Move, Status, chart, move

PAGE = Path(__file__).parents[2] / "docs" / "states.md"


def test_the_chart_in_the_docs_is_made_from_the_table() -> None:
    assert f"```mermaid\n{chart()}\n```" in PAGE.read_text(encoding="utf-8")


def test_every_status_has_its_row_in_the_table() -> None:
    assert set(TRANSITIONS) == set(Status)


OPENED_AGAIN = {(Status.FAILED, Move.REOPEN), (Status.CANCELLED, Move.REVIVE)}  # by a person, and with its caller


@pytest.mark.parametrize("status", [status for status in Status if status.ended])
def test_an_ended_invocation_never_moves_again_unless_a_person_opens_a_failed_one(status: Status) -> None:
    for by in Move:
        if (status, by) in OPENED_AGAIN:
            assert move(status, by) is Status.QUEUED
            continue
        with pytest.raises(WrongStatus, match=f"'x' is {status.name.lower()} and cannot be {DONE_TO_IT[by]}"):
            move(status, by, "x")


def test_a_refusal_says_of_which_status_it_can_be() -> None:
    with pytest.raises(WrongStatus, match="only a failed one can be retried"):
        move(Status.CANCELLED, Move.REOPEN)


def test_ended_are_those_from_which_the_chart_leads_out() -> None:
    assert [status.name for status in Status if status.ended] == ["DONE", "FAILED", "CANCELLED", "KILLED"]
    assert all(f"{status.name} --> [*]" in chart() for status in Status if status.ended)


def test_whatever_has_not_ended_can_be_killed_and_leads_to_an_end() -> None:
    for status in Status:
        assert (Move.KILL in TRANSITIONS[status]) is not status.ended


def test_every_move_of_the_table_leads_where_it_says() -> None:
    for source, moves in TRANSITIONS.items():
        for by, target in moves.items():
            assert move(source, by) is target
