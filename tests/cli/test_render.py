"""What a person sees: words for time and size, columns that never cut an id, bars, and no power over the terminal."""

import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from holdfast.cli import wire
from holdfast.cli.render import lists, timeline, watching, words
from holdfast.cli.render.layout import Columns, Line

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def drawn(picture: RenderableType, width: int = 100) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(picture, markup=False, soft_wrap=True)
    return stream.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize(
    "seconds,text",
    [
        (0, "0 ms"), (-1, "0 ms"), (0.0124, "12 ms"), (0.9994, "999 ms"), (0.9996, "1.0 s"), (59.94, "59.9 s"),
        (59.96, "1 min"), (125, "2 min 5 s"), (3600, "1 h"), (11_400, "3 h 10 min"), (90_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_a_span_has_at_most_two_units(seconds: float, text: str) -> None:
    assert words.span(seconds) == text


@pytest.mark.parametrize(
    "seconds,text",
    [(0.4, "now"), (5, "5 s ago"), (245, "4 min ago"), (-5, "in 5 s"), (-10_740, "in 2 h 59 min"), (-0.5, "now")],
)
def test_moments_are_told_from_now(seconds: float, text: str) -> None:
    assert words.ago(AT - timedelta(seconds=seconds), AT) == text


def test_a_moment_far_away_is_a_date() -> None:
    assert words.ago(AT - timedelta(days=40), AT).startswith("2026-01-")
    assert words.ago(AT + timedelta(days=40), AT).startswith("2026-04-")


@pytest.mark.parametrize(
    "count,text",
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (34_000, "34 kB"), (999_600, "1.0 MB"), (5e12, "5000 GB")],
)
def test_sizes(count: int, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize("evil", ["\x1b[2J", "\x07", "\x9b31m", "\u202e", "\r", "\x00"])
def test_stored_text_cannot_steer_the_terminal(evil: str) -> None:
    row = wire.Invocation(id=f"a{evil}", target=f"b{evil}", status=evil, created=AT, updated=AT, reason=f"c{evil}d\ne")
    step = wire.Step("step", f"0/{evil}#1", evil, AT, AT, error=evil, output={"x": evil})
    run = timeline.Run(row, [step])
    ask = wire.Ask("p", f"i{evil}", f"q{evil}", AT)
    for picture in (
        lists.invocations([row]), timeline.show(run, full=True), timeline.show(run, full=False), lists.asks([ask]),
        lists.keys([evil]), lists.state({evil: evil}), lists.rows(wire.Rows([evil], [[evil]])),
        lists.checks([wire.Check(evil, evil, ok=False, problem=evil)]),
        lists.handlers([wire.Handler(evil, evil, doc=evil)]), lists.schedules([wire.Schedule(evil, evil, evil)]),
    ):  # fmt: skip
        assert evil not in "\n".join(drawn(picture)).replace("\n", "")


def test_json_on_a_terminal_is_still_json_and_steers_nothing() -> None:
    value = {"text": "\x1b[2J\x9b31m\u202e\u00fc", "list": [1, True, None]}
    text = "\n".join(drawn(words.json_picture(value)))
    assert json.loads(text) == value
    assert not {"\x1b", "\x9b", "\u202e"} & set(text)
    assert "\u00fc" in text


def test_only_the_elastic_column_gives_way() -> None:
    rows = [("an-id-that-is-long", "some target", "a reason that does not fit into the rest of the line")]
    assert drawn(Columns(("ID", "TARGET", "WHY"), rows, elastic=2), width=50) == [
        "ID                  TARGET       WHY",
        "an-id-that-is-long  some target  a reason that do…",
    ]
    narrow = drawn(Columns(("ID", "TARGET", "WHY"), rows, elastic=2), width=10)
    assert narrow[1].startswith("an-id-that-is-long  some target  a reason")


def test_wide_characters_keep_the_columns_straight() -> None:
    lines = drawn(Columns(("ID", "WHY"), [("日本", "x"), ("ab", "y")]))
    assert lines == ["ID    WHY", "日本  x", "ab    y"]
    assert drawn(Line(Text("日本日本")), width=6) == ["日本…"]


def test_a_column_without_content_is_left_out() -> None:
    assert drawn(Columns(("A", "B", "C"), [("1", "", "3"), ("4", "", "6")])) == ["A  C", "1  3", "4  6"]


@pytest.mark.parametrize(
    "start,end,text",
    [
        (0, 1, "━━━━━━━━━━━━"), (0, 0, "━           "), (1, 1, "           ━"), (0.5, 0.75, "      ━━━   "),
        (-1, 3, "━━━━━━━━━━━━"), (0.999, 1, "           ━"),
    ],
)  # fmt: skip
def test_a_bar_is_always_seen(start: float, end: float, text: str) -> None:
    assert timeline.bar(start, end) == text


def seconds(number: float) -> datetime:
    return AT + timedelta(seconds=number)


def head(**values: Any) -> wire.Invocation:
    return wire.Invocation(
        **{"id": "trip-1", "target": "Trips/plan", "status": "done", "created": AT, "updated": seconds(8)} | values
    )


def test_a_timeline_shows_attempts_errors_sizes_and_children() -> None:
    steps = [
        wire.Step("step", "0/rates#1", "done", seconds(0), seconds(2), 3, output=[1, 2, 3]),
        wire.Step("step", "0/policy#1", "failed", seconds(2), seconds(4), 5, error="HTTPError: 503\nmore"),
        wire.Step("call", "0/pay#1", "done", seconds(4), seconds(8), output="paid", child="pay-1"),
    ]
    child = timeline.Run(head(id="pay-1"), [wire.Step("step", "0/book#1", "done", seconds(5), seconds(7), output=1)])
    lines = drawn(timeline.show(timeline.Run(head(output={"ok": True}), steps, {"pay-1": child}), full=False), 120)
    assert lines[0] == "trip-1  Trips/plan  done after 8.0 s"
    assert 'output   {"ok":true}' in lines
    assert [line.split() for line in lines[-4:]] == [
        ["+0", "ms", "━━━", "2.0", "s", "0/rates#1", "3", "tries", "7", "B", "[1,2,3]"],
        ["+2.0", "s", "━━━", "2.0", "s", "0/policy#1", "failed,", "5", "tries", "HTTPError:", "503"],
        ["+4.0", "s", "━━━━━━", "4.0", "s", "0/pay#1", "6", "B", '"paid"'],
        ["+5.0", "s", "━━━", "2.0", "s", "0/book#1", "1", "B", "1"],
    ]
    assert lines[-1].index("0/book#1") == lines[-2].index("0/pay#1") + 2


def test_a_timeline_shows_a_step_that_was_begun_and_nobody_knows_of() -> None:
    steps = [
        wire.Step("once", "pay#1", "begun", finished=seconds(1)),
        wire.Step("once", "pay#1", "not done", finished=seconds(2), error="the person says so: I rang the bank"),
        wire.Step("once", "pay#1", "begun", finished=seconds(3), tries=2),
        wire.Step("promise", "pay#1", "waiting", seconds(4), inputs=["What came of step 'pay#1'?", {"step": "pay#1"}]),
    ]
    run = timeline.Run(head(status="suspended"), steps)
    told = [line.split("pay#1", 1)[1].strip() for line in drawn(timeline.show(run, full=False), 120)[-4:]]
    assert told[0] == "begun"
    assert [" ".join(line.split()) for line in told[1:]] == [
        "not done the person says so: I rang the bank",
        "begun, 2 tries",
        "waiting asks: What came of step 'pay#1'?",
    ]
    assert timeline.hint(run) == "to answer: holdfast asks"


def test_what_is_waited_for_is_plain_to_see() -> None:
    due = words.now() + timedelta(minutes=5, milliseconds=400)
    steps = [
        wire.Step("step", "rates#1", "retrying", seconds(0), tries=3, error="HTTPError: 503", due=due),
        wire.Step("promise", "delivery#1", "waiting", seconds(0), promise="prm_1"),
        wire.Step("promise", "ask#1", "waiting", seconds(0), promise="prm_2", inputs=["Now?", None], due=due),
        wire.Step("call", "pay#1", "running", seconds(0), child="pay-1"),
        wire.Step("signal", "news", "waiting", tries=0),
        wire.Step("timer", "timer#1", "waiting", tries=0, due=due),
    ]
    run = timeline.Run(head(status="suspended"), steps, {"pay-1": timeline.Run(head(id="pay-1", status="paused"), [])})
    lines = drawn(timeline.show(run, full=False), 200)[-6:]
    shown = [re.split(r"(?=rates|delivery|ask|pay#|news|timer#)", line, maxsplit=1)[1] for line in lines]
    until = f"until {due.astimezone():%Y-%m-%d %H:%M:%S}, in 5 min"
    assert [re.sub(" +", " ", line) for line in shown] == [
        "rates#1 retrying, 3 tries tried again in 5 min; HTTPError: 503",
        "delivery#1 waiting prm_1",
        f"ask#1 waiting asks: Now? {until}",
        "pay#1 paused pay-1",
        "news waiting for a signal of this name",
        f"timer#1 waiting {until}",
    ]
    assert lines[4].startswith(" " * 20), "nothing is known of its beginning"


@pytest.mark.parametrize(
    "steps,next_step",
    [
        ([wire.Step("promise", "ask#1", "waiting", promise="p", inputs=["Now?", None])], "to answer: holdfast asks"),
        ([wire.Step("promise", "a#1", "waiting", promise="p q")], "to settle it: holdfast resolve 'p q' JSON"),
        ([wire.Step("signal", "my news", "waiting")], "to send it: holdfast signal trip-1 'my news' VALUE"),
        ([wire.Step("promise", "a#1", "done", promise="p")], None),
        ([wire.Step("timer", "timer#1", "waiting")], None),
    ],
)
def test_the_next_step_is_that_of_what_is_waited_for(steps: list[wire.Step], next_step: str | None) -> None:
    assert timeline.hint(timeline.Run(head(status="suspended"), steps)) == next_step


@pytest.mark.parametrize(
    "queue,shown",
    [
        (wire.Queue("key", "Chat/a", "m-1", 0), "for the key Chat/a, which m-1 has"),
        (wire.Queue("key", "Chat/a", "m-1", 2), "for the key Chat/a, which m-1 has; 2 before it"),
        (wire.Queue("key", "Chat/a", None, 1), "for the key Chat/a; 1 before it"),
        (wire.Queue("limit", "Desk/ask", None, 3), "for a place under the limit of Desk/ask; 3 before it"),
        (wire.Queue("room"), "until there is room for it"),
    ],
)
def test_one_that_is_queued_says_for_what(queue: wire.Queue, shown: str) -> None:
    assert f"waits    {shown}" in drawn(timeline.show(timeline.Run(head(status="queued", queue=queue), []), full=False))


def test_a_pause_is_shown_whole_and_with_the_next_step() -> None:
    run = timeline.Run(head(status="paused", reason="[HF303] another path\n  recorded: a\n  next step: b"), [])
    assert drawn(timeline.show(run, full=False))[-3:] == [
        "reason   [HF303] another path",
        "  recorded: a",
        "  next step: b",
    ]
    assert timeline.hint(run) == "mend the cause, then: holdfast resume trip-1"


def test_a_failure_is_shown_with_its_traceback() -> None:
    trace = 'Traceback (most recent call last):\n  File "a.py", line 1, in work\nValueError: no\n'
    run = timeline.Run(head(status="failed", reason="ValueError: no", details=trace), [])
    assert drawn(timeline.show(run, full=False))[-4:] == ["reason   ValueError: no", *trace.splitlines()]
    step = wire.Step("step", "a#1", "failed", seconds(1), error="ValueError: no", details=trace)
    assert drawn(timeline.whole(step))[-4:] == ["error    ValueError: no", *trace.splitlines()]


@pytest.mark.parametrize(
    "stored,state,shown",
    [("ready", "running", "running"), ("ready", "retrying", "running"), ("ready", "checking", "running"),
     ("ready", "done", "ready"),
     ("paused", "running", "paused")],
)  # fmt: skip
def test_what_works_on_a_step_is_running(stored: str, state: str, shown: str) -> None:
    run = timeline.Run(head(status=stored), [wire.Step("step", "a#1", state, seconds(1))])
    assert drawn(timeline.show(run, full=False))[0] == f"trip-1  Trips/plan  {shown}"


def test_a_status_is_never_older_than_what_came_before_it() -> None:
    picture = watching.Picture(head(status="suspended"))
    step = {"id": "a#1", "started": seconds(1).isoformat(), "finished": seconds(3).isoformat()}
    suspended = wire.Event("1", "status", {"status": "suspended", "updated": seconds(2).isoformat()})
    assert str(picture.line(wire.Event("1", "step", step))).split() == ["+3.0", "s", "a#1", "2.0", "s"]
    asks = "suspended  asks: Keep 4 thoughts?"
    assert str(picture.line(suspended)).split() == ["+3.0", "s", "suspended"]
    assert str(picture.line(suspended, ["Keep 4 thoughts?\nmore"])).endswith(f"{asks}  (holdfast answer)")
    assert str(picture.line(suspended, ["Keep 4 thoughts?", "b", "c"])).endswith(
        f"{asks} and 2 more  (holdfast answer)"
    )
    done = wire.Event("1", "status", {"status": "done", "updated": seconds(8).isoformat()})
    assert str(picture.line(done)).split() == ["+8.0", "s", "done"]


def test_an_attempt_that_failed_says_why_and_when_the_next_one_is() -> None:
    due = words.now() + timedelta(seconds=9.4)
    data = {
        "kind": "step",
        "id": "a#1",
        "state": "retrying",
        "tries": 2,
        "error": "E: no\nmore",
        "due": due.isoformat(),
    }
    line = str(watching.Picture(head()).line(wire.Event("1", "attempt", data)))
    assert line.endswith("a#1  attempt 2 failed  E: no; tried again in 9 s")


def test_what_is_long_is_cut_unless_asked_for() -> None:
    run = timeline.Run(head(input={"text": "x" * 300}), [wire.Step("step", "0/a#1", "done", AT, AT, output="y" * 300)])
    assert all(len(line) <= 80 for line in drawn(timeline.show(run, full=False), 80))
    assert "x" * 300 in "".join(drawn(timeline.show(run, full=True), 80))
    assert "y" * 300 in "".join(drawn(timeline.show(run, full=True), 80))


def test_what_a_handler_takes_is_told_from_its_schema() -> None:
    schema = {
        "$ref": "#/$defs/In",
        "$defs": {
            "In": {
                "type": "object",
                "properties": {
                    "claim": {"$ref": "#/$defs/Claim"},
                    "rush": {"type": "boolean"},
                    "size": {"enum": ["s", "m"]},
                },
                "required": ["claim"],
            },
            "Claim": {"type": "object", "properties": {"id": {"type": "string"}}},
        },
    }
    handler = wire.Handler("Claims/review", arguments=schema, returns={"type": "string"}, doc="Reviews.\nMore.")
    assert drawn(lists.handlers([handler]))[1].split("  ") == [
        "Claims/review", "service", "claim: {id}, [rush]: yes or no, [size]: s | m", "text", " Reviews.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "picture,text",
    [
        (lists.invocations([]), "no invocations"), (lists.asks([]), "no open questions"),
        (lists.promises([]), "no open promises"), (lists.keys([]), "no keys"),
        (lists.state({}), "no state"), (lists.handlers([]), "no handlers"), (lists.schedules([]), "no schedules"),
        (lists.rows(wire.Rows(["a"], [])), "no rows"),
    ],
)  # fmt: skip
def test_an_empty_list_says_of_what(picture: RenderableType, text: str) -> None:
    assert drawn(picture) == [text]
