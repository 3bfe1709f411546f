"""Roles that are never on one device at once (`apart`, `single` with a word), against a search of all runs of a few
contexts on two devices: what the search breaks is not proved, and what is violated replays."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from modelcheck.devices import with_instances
from modelcheck.pipeline import Options, load, verify
from modelcheck.verdict import Proved, Violated
from tests.concurrent_bruteforce import TooManyStates, environments, explore_open
from tests.property.test_devices import ROLES, Driver

MEETINGS = Options(only=frozenset({"D01", "D02", "R03"}))
LIMIT = 4_000


def model(seed: int) -> str:
    """A random driver with a device, whose roles keep each other out."""
    text = Driver(seed, 1).with_devices()
    names = [name for name, _ in ROLES.findall(text)]
    pick = random.Random(f"{seed} apart")

    def kept_out(role: re.Match[str]) -> str:
        inside = role.group(2)
        if pick.random() < 0.5:
            inside = inside.replace("single;", "single together;")
        if pick.random() < 0.5:
            inside = re.sub(r"( phase \w+;)|$", rf" apart {pick.choice(names)};\1", inside, count=1)
        return f"role {role.group(1)} {{{inside}}}"

    return ROLES.sub(kept_out, text)


def compared(seed: int, folder: Path) -> Counter[str]:
    """The verdicts of a random driver; none of them contradicts the search."""
    path = folder / "driver.drvm"
    path.write_text(model(seed), encoding="utf-8")
    results = verify(path, MEETINGS).results
    assert all(r.verdict.replayed for r in results if isinstance(r.verdict, Violated))
    program = with_instances(load(path)[0], 2)
    try:
        found = explore_open(program, environments(program), 2, 2, LIMIT)
    except TooManyStates:
        return Counter()
    for result in results:
        if isinstance(result.verdict, Proved):
            assert not any(f.breaks(result.obligation) for f in found.certain), f"seed {seed}: {result.obligation.id}"
    return Counter(type(result.verdict).__name__ for result in results)


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_nothing_is_proved_that_two_contexts_break(first: int, tmp_path: Path) -> None:
    total: Counter[str] = Counter()
    for seed in range(first, first + 10):
        total += compared(seed, tmp_path)
    assert total["Proved"]


@pytest.mark.slow
@pytest.mark.parametrize("first", range(60, 1200, 60))
def test_nothing_is_proved_that_two_contexts_break_at_length(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + 60):
        compared(seed, tmp_path)


def test_what_the_roles_say_matters(tmp_path: Path) -> None:
    """With the same routines, some verdicts are others: else the tests above say nothing."""
    path = tmp_path / "driver.drvm"
    changed = 0
    for seed in range(20):
        text = model(seed)
        verdicts = []
        for said in (text, re.sub(r" apart \w+;", "", text.replace("single together;", "single;"))):
            path.write_text(said, encoding="utf-8")
            verdicts.append([type(r.verdict).__name__ for r in verify(path, MEETINGS).results])
        changed += verdicts[0] != verdicts[1]
    assert changed
