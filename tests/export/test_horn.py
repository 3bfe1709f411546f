"""Spacer decides exported roots as modelcheck does, as Horn clauses and as transition systems."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest

from modelcheck.engines.analyse import Analysis, Broken, Held, Limits
from modelcheck.export.horn import horn
from modelcheck.export.refusal import NotExportable
from modelcheck.export.root import single, system
from modelcheck.export.vmt import vmt
from modelcheck.lower import Lowered, lower
from modelcheck.pipeline import load
from tests.export import spacer

ROOT = Path(__file__).parent.parent.parent
FEW = [
    ROOT / name
    for name in (
        "examples/seeds/init_acquire_bad.drvm",
        "examples/seeds/init_at_dpc_level_good.drvm",
        "examples/seeds/pairing_queued_bad.drvm",
        "tests/verdicts/correlated/flag.drvm",
        "tests/verdicts/correlated/flag_too_late.drvm",
        "tests/verdicts/correlated/goto_retry.drvm",
        "tests/verdicts/calls/by_reference.drvm",
    )
]
SLOW = ("eight_flags", "twelve_flags")
"""Models on which Spacer takes minutes."""
MANY = sorted(
    path
    for folder in ("tests/verdicts", "examples/seeds")
    for path in (ROOT / folder).rglob("*.drvm")
    if path not in FEW and not path.stem.startswith(SLOW)
)


@lru_cache(maxsize=1)
def analysed(path: Path) -> tuple[Lowered, Analysis]:
    lowered = lower(load(path)[0])
    analysis = Analysis(lowered, Limits())
    analysis.run()
    return lowered, analysis


def disagreements(path: Path, blocks: bool) -> tuple[list[str], int]:
    """Where Spacer and modelcheck differ about an obligation, and how many both decide."""
    lowered, analysis = analysed(path)
    wrong, decided = [], 0
    for number, roots in single(lowered).items():
        decision = analysis.decisions.get(number)
        if not isinstance(decision, Held | Broken):
            continue
        try:
            systems = [system(lowered, root, [number], analysis.lives[root]) for root in roots]
        except NotExportable:
            continue
        answer = spacer.satisfiable(horn(systems, blocks), 5_000)
        if answer is None:
            continue
        decided += 1
        if answer != isinstance(decision, Held):
            wrong.append(f"{lowered.obligations[number].id}: {type(decision).__name__}, Spacer: {answer}")
    return wrong, decided


@pytest.mark.parametrize("blocks", [True, False], ids=["blocks", "points"])
@pytest.mark.parametrize("path", FEW, ids=lambda path: path.stem)
def test_horn_clauses(path: Path, blocks: bool) -> None:
    wrong, decided = disagreements(path, blocks)
    assert wrong == []
    assert decided


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [True, False], ids=["blocks", "points"])
@pytest.mark.parametrize("path", MANY, ids=lambda path: path.stem)
def test_many_horn_clauses(path: Path, blocks: bool) -> None:
    assert disagreements(path, blocks)[0] == []


@pytest.mark.parametrize("path", FEW[:5], ids=lambda path: path.stem)
def test_transition_systems(path: Path) -> None:
    """Each property of each root, read from the VMT file by its annotations alone."""
    lowered, analysis = analysed(path)
    found = single(lowered)
    broken = {number: False for number in found}
    for root in lowered.roots:
        for number in (n for n, roots in found.items() if root in roots):
            text = vmt(system(lowered, root, [number], analysis.lives[root]), {number: lowered.obligations[number]})
            if ":invar-property" in text:
                answer = spacer.invariant(text, 0)
                assert answer is not None
                broken[number] |= not answer
    assert broken == {number: isinstance(analysis.decisions[number], Broken) for number in found}


def test_all_obligations_together() -> None:
    """One file for all: it can be satisfied if and only if nothing is broken."""
    for path, safe in ((FEW[0], False), (FEW[1], True)):
        lowered, analysis = analysed(path)
        found = single(lowered)
        systems = [
            system(lowered, root, (n for n, roots in found.items() if root in roots), analysis.lives[root])
            for root in lowered.roots
        ]
        assert spacer.satisfiable(horn(systems, blocks=True)) is safe
        assert spacer.satisfiable(horn(systems, blocks=False)) is safe
