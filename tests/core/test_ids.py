"""Names of things: the same for ever, in every process, and never two for one or one for two."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.ids import (
    ID_CHARS_MAX,
    PARTITIONS,
    check_id,
    counter_of,
    make_id,
    number,
    partition_of,
    secret_name,
    spread,
)  # fmt: skip
from holdfast.core.tasks import Branch
from holdfast.errors import BadArguments

IDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=ID_CHARS_MAX)
DAY_MS = 86_400_000


def test_what_is_stored_is_made_the_same_way_for_ever() -> None:
    assert [partition_of(id) for id in ("trip-1", "trip-2", "größe")] == [23, 45, 9]
    assert number(1000, "trip-1") == 64_023
    assert make_id(1_700_000_000_123, 7) == "inv_065wzsb8fc00000000000007"
    assert secret_name("prm_", 17, "trip-1", "ask#1") == "prm_9581824effb3b571a82850adbbad2749"
    assert spread("trip-1") == 609_958_605_647_042_519  # the order of sets on replay follows from it


@given(counter=st.integers(0, 2**56), id=IDS)
def test_a_number_tells_its_counter_and_its_partition(counter: int, id: str) -> None:
    n = number(counter, id)
    assert counter_of(n) == counter
    assert n % PARTITIONS == partition_of(id)
    assert n < 2**63


@given(first=st.integers(0, 2**47), later=st.integers(1, 1000 * DAY_MS), seed=st.integers(0, 2**32))
def test_made_ids_sort_by_time(first: int, later: int, seed: int) -> None:
    rng = Random(seed)
    early, late = make_id(first, rng.getrandbits(72)), make_id(first + later, rng.getrandbits(72))
    assert early < late
    assert len(early) == len(late) == 28
    assert check_id(early) == early


def test_ids_made_at_the_same_moment_differ() -> None:
    rng = Random(1)
    assert len({make_id(1, rng.getrandbits(72)) for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize("id", ["trip-17", "a", "x" * ID_CHARS_MAX, "Orléans/2026 #1", "日本"])
def test_printable_ids_are_taken_as_they_are(id: str) -> None:
    assert check_id(id) == id


@pytest.mark.parametrize("id", ["", "x" * (ID_CHARS_MAX + 1), "a\nb", "a\x00", "\ud800", "\u202etxt", None, 7, b"trip"])
def test_an_id_nobody_could_read_is_refused(id: object) -> None:
    with pytest.raises(BadArguments, match=f"1 to {ID_CHARS_MAX} printable characters"):
        check_id(id)  # type: ignore[arg-type]


def test_secret_names_differ_by_everything_they_are_made_of() -> None:
    made = {
        secret_name(prefix, seed, id, local)
        for prefix in ("prm_", "hf_")
        for seed in (0, 1, 2**63, 2**64 - 1)
        for id in ("a", "a\0b", "b")
        for local in ("s#1", "b\0s#1", "s#2")
    }
    assert len(made) == 2 * 4 * 3 * 3 - 2 * 4  # ("a", "b\0s#1") and ("a\0b", "s#1") would meet, but no id has a NUL


def test_a_base_of_hashes_differs_between_invocations() -> None:
    bases = {spread(f"trip-{n}") % 2**20 for n in range(1000)}
    assert len(bases) > 900


def test_no_two_places_in_a_tree_of_tasks_share_an_id() -> None:
    rng = Random(3)
    branches = [Branch(""), Branch("~/")]
    seen: set[str] = set()
    asked = 0
    for _ in range(3000):
        branch = rng.choice(branches)
        if rng.random() < 0.1:
            branches.append(branch.child())
        for name in ("a", "1", "1.1", "timer", "a b", "größe"):
            seen.add(branch.name(name))
            asked += 1
    assert len(seen) == asked
    assert len({branch.path for branch in branches}) == len(branches)
