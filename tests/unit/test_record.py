"""Records are data classes: what the program asks of them, and what the library does."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from modelcheck.record import dataclass, field, fields, replace


@dataclass(frozen=True, slots=True)
class Pair:
    """Two things."""

    first: int
    second: str = "b"
    seen: list[int] = field(default_factory=list, compare=False, repr=False)


@dataclass(slots=True)
class Count:
    start: int
    now: int = 0

    def __post_init__(self) -> None:
        self.now = self.now or self.start


@dataclass(frozen=True, slots=True, eq=False)
class Single:
    name: str


def test_fields_have_their_defaults() -> None:
    assert (Pair(1).second, Pair(1, second="c").second, Pair(1, "b", [2]).seen) == ("b", "c", [2])
    assert Pair(1).seen is not Pair(1).seen
    assert Count(3).now == 3
    with pytest.raises(TypeError, match=r"Pair.__init__\(\) missing 1 required positional argument: 'first'"):
        Pair()  # type: ignore[call-arg]


def test_records_are_compared_by_what_counts() -> None:
    assert Pair(1, "b", [1]) == Pair(1) != Pair(2)
    assert hash(Pair(1, "b", [1])) == hash(Pair(1))
    assert Single("a") != Single("a")
    assert Count.__hash__ is None
    assert repr(Pair(1)) == "Pair(first=1, second='b')"


def test_records_have_slots_and_match() -> None:
    assert not hasattr(Pair(1), "__dict__")
    match Pair(1, "c"):
        case Pair(first, second):
            assert (first, second) == (1, "c")


def test_a_record_is_changed_by_making_another() -> None:
    before = Pair(1, "c", [2])
    after = replace(before, first=3)
    assert (after.first, after.second, after.seen is before.seen) == (3, "c", True)
    assert fields(Pair) == ("first", "second", "seen")
    assert fields(int) == ()


def test_the_library_knows_them() -> None:
    assert dataclasses.replace(Pair(1, "c"), first=2) == Pair(2, "c")
    assert [each.name for each in dataclasses.fields(Pair)] == ["first", "second", "seen"]
    assert dataclasses.astuple(Pair(1)) == (1, "b", [])
    assert dataclasses.is_dataclass(Count)
    assert pickle.loads(pickle.dumps(Pair(1))) == Pair(1) == copy.copy(Pair(1))
