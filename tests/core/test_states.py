"""The state table is the only place where a status changes, and the docs show that table."""

from pathlib import Path

import pytest

from holdfast import WrongStatus
from holdfast.core.invocation import TRANSITIONS, Move, Status, chart, move

PAGE = Path(__file__).parents[2] / "docs" / "states.md"


def test_the_chart_in_the_docs_is_made_from_the_table() -> None:
    assert f"```mermaid\n{chart()}\n```" in PAGE.read_text(encoding="utf-8")


def test_every_status_has_its_row_in_the_table() -> None:
    assert set(TRANSITIONS) == set(Status)


@pytest.mark.parametrize("status", [status for status in Status if status.ended])
def test_an_ended_invocation_never_moves_again(status: Status) -> None:
    for by in Move:
        with pytest.raises(WrongStatus, match=status.name):
            move(status, by)


def test_every_move_of_the_table_leads_where_it_says() -> None:
    for source, moves in TRANSITIONS.items():
        for by, target in moves.items():
            assert move(source, by) is target
