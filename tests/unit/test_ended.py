"""Each rule about who is gone is there for a model that would be proved without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelcheck import verify
from modelcheck.lower import program
from modelcheck.mutual import ended, overlap
from modelcheck.resolve import Program
from modelcheck.verdict import RACES, Proved

FOLDER = Path(__file__).parent.parent / "verdicts" / "teardown"
Patch = pytest.MonkeyPatch


def nobody_enables(patch: Patch) -> None:
    patch.setattr(ended._Paths, "_nobody_begins", lambda *_: True)


def a_wait_ends_timers(patch: Patch) -> None:
    patch.setattr(ended._Paths, "_is_over", lambda self, starter, state: self._nobody_begins(starter, state))


def one_object_stands_for_all(patch: Patch) -> None:
    right = ended.Ended.started_by
    patch.setattr(ended.Ended, "started_by", lambda self, root: right(self, root)[:1])


def what_begins_again_has_ended(patch: Patch) -> None:
    patch.setattr(ended.Gone, "begun_again", lambda self: self)


def what_is_opened_stays_closed(patch: Patch) -> None:
    patch.setattr(ended.Gone, "opened", lambda self, _: self)


def nobody_opens(patch: Patch) -> None:
    patch.setattr(ended.Ended, "may_open", lambda *_: False)


def an_edge_is_one_place(patch: Patch) -> None:
    patch.setattr(ended._Paths, "within", lambda self, _, state: state)


def devices_of_other_sorts_do_not_matter(patch: Patch) -> None:
    def there(self: Any, other: int, alone: bool) -> bool:
        devices = [device for _, device in self.ended.roots[other].devices]
        return not self.device or self.device in devices

    patch.setattr(ended._Paths, "_is_there", there)


def a_lock_that_both_hold_is_enough(patch: Patch) -> None:
    patch.setattr(program._ProgramLowerer, "_freed_at_end", lambda *_: None)


def a_wait_for_one_object_is_for_all(patch: Patch) -> None:
    patch.setattr(ended.Ended, "is_run_of", lambda *_: True)


def which_one_is_known(patch: Patch) -> None:
    patch.setattr(Program, "disabled_by", lambda self, name: tuple((one, True) for one in self.run_by(name)))


def nobody_is_beside_anybody(patch: Patch) -> None:
    patch.setattr(overlap.Overlap, "kept_off", lambda self, first, second, sites=None: "Dev")


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (nobody_enables, "timer_started_again"),
        (nobody_enables, "timer_cancelled_before_the_wait"),
        (a_wait_ends_timers, "timer_waited_for_and_not_stopped"),
        (one_object_stands_for_all, "one_routine_of_two_timers"),
        (what_begins_again_has_ended, "started_after_the_wait"),
        (what_is_opened_stays_closed, "run_down_and_opened_again"),
        (nobody_opens, "run_down_and_begun_again"),
        (an_edge_is_one_place, "enabled_and_freed_in_one"),
        (devices_of_other_sorts_do_not_matter, "started_for_a_child"),
        (a_lock_that_both_hold_is_enough, "freed_under_a_lock"),
        (nobody_is_beside_anybody, "timer_stopped_only"),
        (a_wait_for_one_object_is_for_all, "callback_that_a_timer_runs_too"),
        (which_one_is_known, "one_of_two_network_interrupts"),
    ],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
def test_a_rule_is_needed(fault: Any, name: str, monkeypatch: Patch) -> None:
    path = FOLDER / f"{name}.drvm"
    open_before = _open(path)
    assert open_before
    fault(monkeypatch)
    assert not open_before <= _open(path)


def _open(path: Path) -> set[str]:
    """The obligations about meetings that are not proved."""
    return {
        result.obligation.id
        for result in verify(path).results
        if result.obligation.code in RACES and not isinstance(result.verdict, Proved)
    }
