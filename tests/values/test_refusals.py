"""What cannot be kept is refused by name, path and type, before anything is stored."""

import datetime as dt
import io
from collections import defaultdict
from decimal import Decimal
from typing import Any, Never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import TooLarge, Unreadable, Unserialisable
from holdfast.values import MISSING, VALUE_BYTES_MAX, codec_for
from tests.values.kinds import (
    BigDog,
    Colour,
    Dog,
    Hotel,
    Leg,
    Level,
    Locked,
    LongStop,
    Loose,
    Page,
    Point,
    Stop,
    Ticket,
    Tree,
    shown,
)  # fmt: skip

NOON = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
NAN = float("nan")


def refusal(hint, value):
    with pytest.raises(Unserialisable) as caught:
        codec_for(hint).encode_checked(value)
    assert "next step:" in str(caught.value)
    return caught.value.what


@pytest.mark.parametrize(
    "value, found",
    [
        (Hotel(name="Ritz"), "$ is a tests.values.kinds.Hotel"),
        ({"items": [1, 2, 3, Stop("Rome", NOON)]}, "$.items[3] is a tests.values.kinds.Stop"),
        (b"x", "$ is a bytes"),
        ([NOON], "$[0] is a datetime.datetime"),
        ({"a": {1}}, "$.a is a set"),
        ({"a": {1: 2}}, "$.a is a dict with a key of type int"),
        ({None: 2}, "$ is a dict with a key of type None"),
        ([Level.LOW], "$[0] is a tests.values.kinds.Level"),
        ([Decimal(1)], "$[0] is a decimal.Decimal"),
        (defaultdict(int), "$ is a collections.defaultdict"),
        (Point(1, 2), "$ is a tests.values.kinds.Point"),
        (io.BytesIO(), "$ is a _io.BytesIO"),
        (len, "$ is a builtin_function_or_method"),
    ],
    ids=shown,
)
def test_without_annotation_only_plain_json_is_kept(value, found):
    with pytest.raises(Unserialisable) as caught:
        codec_for(MISSING).encode_checked(value)
    assert caught.value.what == f"{found}, and its type is not declared: there is no annotation"
    assert "returns=YourType" in caught.value.fix
    assert "the hint is Any" in refusal(Any, value)


def test_an_undeclared_part_is_not_flattened():
    assert "$.a[0] is a tests.values.kinds.Stop that reads back as a dict" in refusal(
        dict[str, Any], {"a": [Stop("Rome", NOON)]}
    )
    assert "$.payload.at is a datetime.datetime that reads back as a str" in refusal(Loose, Loose({"at": NOON}))
    assert "$.payload is a bytes that reads back as a str" in refusal(Loose, Loose(b"x"))
    assert "$.a[1] is a set that reads back as a list" in refusal(dict[str, Any], {"a": [1, {2}]})
    assert "$[5] is a field or key" in refusal(dict[Any, Any], {5: "x"})


def test_a_subclass_in_place_of_its_base_would_lose_fields():
    assert "LongStop that reads back as a tests.values.kinds.Stop" in refusal(Stop, LongStop("Rome", NOON, nights=2))
    assert "$.stops[0] is a tests.values.kinds.LongStop" in refusal(Leg, Leg([LongStop("Rome", NOON)]))
    assert "BigDog that reads back as a tests.values.kinds.Dog" in refusal(Dog, BigDog())
    assert "$.items[0]" in refusal(Page[Dog], Page[Dog](items=[BigDog()]))


def test_a_key_that_the_typed_dict_does_not_have_would_be_lost():
    assert "$.colour is a field or key that the declared type does not have" in refusal(
        Ticket, {"seat": "1A", "colour": "red"}
    )


@pytest.mark.parametrize(
    "hint, value, said",
    [
        (int, "x", "declared int, but got str: Expected `int`, got `str`"),
        (int, True, "declared int, but got bool"),
        (str, 5, "declared str, but got int"),
        (None, "x", "declared None, but got str"),
        (list[int], [1, "x"], "declared list[int], but got list: Expected `int`, got `str` - at `$[1]`"),
        (Stop, {"city": "Rome"}, "declared Stop, but got dict: Object missing required field `when`"),
        (Leg, Leg([Stop("Rome", "noon")]), "Invalid RFC3339 encoded datetime - at `$.stops[0].when`"),
        (Leg, Leg([Stop("Rome", 5)]), "Expected `datetime`, got `int` - at `$.stops[0].when`"),
        (Colour, "green", "Invalid enum value 'green'"),
        (Hotel, {"title": "x"}, "declared Hotel, but got dict: Field required, got dict - at `$.name`"),
        (list[Hotel], [{"name": 5}], "Input should be a valid string, got int - at `$[0].name`"),
    ],
    ids=shown,
)
def test_a_value_that_does_not_fit_its_hint_is_refused_at_once(hint, value, said):
    assert said in refusal(hint, value)


def test_a_dict_is_no_model_even_if_its_fields_fit():
    assert "$ is a dict that reads back as a tests.values.kinds.Hotel" in refusal(Hotel, {"name": "Ritz"})
    assert "$.stops[0] is a dict that reads back" in refusal(Leg, Leg([{"city": "Rome", "when": NOON}]))


@pytest.mark.parametrize(
    "hint, value, path",
    [
        (float, NAN, "$"),
        (float, float("inf"), "$"),
        (float | None, NAN, "$"),
        (MISSING, {"a": [0.5, -float("inf")]}, "$.a[1]"),
        (dict[str, Any], {"a": [None, NAN]}, "$.a[1]"),
        (list[float | None], [None, 1.0, NAN], "$[2]"),
        (Loose, Loose([NAN]), "$.payload[0]"),
        (Hotel, Hotel(name="Ritz", rating=NAN), "$.rating"),
        (list[Hotel], [Hotel(name="Ritz"), Hotel(name="Ritz", rating=float("inf"))], "$[1].rating"),
    ],
    ids=shown,
)
def test_nan_and_infinity_are_refused_and_not_turned_into_null(hint, value, path):
    assert f"{path} is the float" in refusal(hint, value)


@pytest.mark.parametrize(
    "hint, value, path",
    [
        (str, "\ud800", "$"),
        (MISSING, ["ok", {"a": "x\udfff"}], "$[1].a"),
        (Tree, Tree("ok", [Tree("\ud800")]), "$.kids[0].name"),
        (Hotel, Hotel.model_construct(name="\ud800"), "$.name"),
    ],
    ids=ascii,
)
def test_text_that_is_not_valid_utf8_is_refused(hint, value, path):
    assert f"{path} is a str with a lone surrogate" in refusal(hint, value)


def test_a_lone_surrogate_in_a_key_is_refused():
    with pytest.raises(Unserialisable):
        codec_for(MISSING).encode({"\ud800": 1})


def test_values_that_contain_themselves_are_refused():
    ring: list[Any] = [1]
    ring.append({"again": ring})
    assert "$[1].again is a list that contains itself" in refusal(MISSING, ring)
    assert "$[1].again is a list that contains itself" in refusal(list[Any], ring)
    tree = Tree("a")
    tree.kids.append(tree)
    assert "$.kids[0] is a tests.values.kinds.Tree that contains itself" in refusal(Tree, tree)
    page = Page[Any](items=[])
    page.items.append(page)
    assert "Page[Any] that contains itself" in refusal(Page[Any], page)


def test_one_object_met_twice_is_no_circle():
    shared = [1]
    assert codec_for(MISSING).encode([shared, shared]) == b"[[1],[1]]"
    assert codec_for(list[Any]).encode([shared, shared, (1,)]) == b"[[1],[1],[1]]"


@pytest.mark.parametrize("hint", [MISSING, list[Any], Page[Any]], ids=shown)
def test_values_nested_too_deeply_are_refused(hint):
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert "levels deep" in refusal(hint, Page[Any].model_construct(items=deep) if hint is Page[Any] else deep)


def test_a_type_without_a_json_form_is_named_with_its_place():
    assert "$.a[0] is an object, which has no JSON form" in refusal(dict[str, Any], {"a": [object()]})
    assert "$.items[0] is a _io.BytesIO that reads back as a list" in refusal(
        Page[Any], Page[Any](items=[io.BytesIO()])
    )


def test_bytes_that_are_no_text_need_a_setting_in_a_model():
    assert "$.items[0] is bytes that are not valid UTF-8" in refusal(Page[bytes], Page[bytes](items=[b"\xff"]))


def test_secrets_are_not_stored_as_stars():
    assert "$.token is a pydantic.types.SecretStr, and secrets are not stored" in refusal(Locked, Locked(token="key"))


@pytest.mark.parametrize("hint", [Never, Hotel | io.BytesIO, 5, list["Unknown"]], ids=shown)  # noqa: F821
def test_a_hint_without_a_json_form_is_refused(hint):
    with pytest.raises(Unserialisable, match="values declared as"):
        codec_for(hint)


def test_a_value_over_the_limit_is_refused():
    big = "x" * 50_000_000
    for hint, value in [(str, big), (MISSING, [big]), (list[str], [big]), (Hotel, Hotel(name=big))]:
        with pytest.raises(TooLarge, match=r"50,000,\d+ bytes of JSON, and the limit is 33,554,432"):
            codec_for(hint).encode(value)


def test_the_limit_itself_is_within():
    assert len(codec_for(str).encode("x" * (VALUE_BYTES_MAX - 2))) == VALUE_BYTES_MAX
    with pytest.raises(TooLarge):
        codec_for(str).encode("x" * (VALUE_BYTES_MAX - 1))


class Hostile:
    """Answers nothing that it is asked."""

    def __eq__(self, other):
        raise RuntimeError("no")

    __hash__ = None


def test_a_hostile_object_is_refused_and_not_passed_on():
    assert "Hostile, which has no JSON form" in refusal(list[Any], [Hostile()])
    assert "Hostile" in refusal(MISSING, Hostile())


@pytest.mark.parametrize("hint", [int, MISSING, Stop, Hotel, list[Hotel], None], ids=shown)
@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b'"\\ud800"', b'{"name":', b"[" * 100_000, b"1e400", b'{"x":1}}'], ids=lambda d: d[:9]
)
def test_stored_bytes_that_do_not_read_are_unreadable(hint, data):
    with pytest.raises(Unreadable, match="does not read as"):
        codec_for(hint).decode(data)


@given(st.binary(max_size=200))
def test_random_bytes_read_or_are_unreadable(data):
    for hint in (Leg, Hotel, MISSING):
        try:
            codec_for(hint).decode(data)
        except Unreadable:
            continue
