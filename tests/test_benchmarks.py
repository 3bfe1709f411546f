"""The benchmark command works, and notices who is wrong. What it measures is no matter of tests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import PARTS, README
from benchmarks.measure import TARGETS, Answer, Bench, Run
from benchmarks.own import ENGINE, engine
from benchmarks.parts import contexts as meeting
from benchmarks.peers import bounded, induction, spacer, spin
from benchmarks.peers.question import SPACER, UNROLLED, Question
from benchmarks.peers.transitions import Search, Transitions
from benchmarks.workloads import contexts
from benchmarks.workloads.drivers import PLACES, Shape, driver
from modelcheck.engines.analyse import Analysis, Limits
from modelcheck.lower import lower
from modelcheck.pipeline import load

ROOT = Path(__file__).parent.parent
ROUND = """
(declare-fun location () Int)
(declare-fun location_next () Int)
(define-fun .location () Int (! location :next location_next))
(declare-fun v0 () Int)
(declare-fun v0_next () Int)
(define-fun .v0 () Int (! v0 :next v0_next))
(declare-fun e0_i0 () Int)
(define-fun .init () Bool (! (and (= location 0) (= v0 0)) :init true))
(define-fun .trans () Bool (! (or OUT (and (= location 1) (= location_next 0) (= v0_next v0)) \
(and (= location 0) BAD (= location_next 2) (= v0_next v0)) \
(and (= location 2) (= location_next 2) (= v0_next v0))) :trans true))
(define-fun .property0 () Bool (! (not (= location 2)) :invar-property 0))
"""
"""From 0 to 1 and back; OUT is how it goes out, 2 is where it goes to when BAD."""
BY_ONE_OR_TWO = "(and (= location 0) (< v0 7) (<= 1 e0_i0 2) (= location_next 1) (= v0_next (+ v0 e0_i0)))"
AT_LEAST_FIVE = "(and (= location 0) (= location_next 1) (= v0_next (ite (<= v0 5) 5 v0)))"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, quick=True, limit=10, largest=1_000, told=lambda _: None)


def asked(bench: Bench, text: str, expected: str, peers: tuple[str, ...]) -> dict[str, Run]:
    """The engine and peers on a model."""
    lowered = lower(load(bench.file(text, "asked"))[0])
    analysis = Analysis(lowered, Limits())
    analysis.run()
    question = Question(lowered, analysis.lives)
    seconds = dict.fromkeys(peers, bench.limit)
    tools = {ENGINE: lambda: engine(lowered, question.numbers)} | question.tools(seconds, bench.folder)
    return bench.compare("asked", 1, expected, tools)


def model(*body: str) -> str:
    lines = ["driver asked;", "import wdm;", "lock L : KSPIN_LOCK initialised;"]
    return "\n".join([*lines, "routine R(Irp) as DRIVER_DISPATCH {", "KIRQL old;", *body, "}", ""])


ALL = (*SPACER, *UNROLLED)
TAKEN, GIVEN = "KeAcquireSpinLock(&L, &old);", "KeReleaseSpinLock(&L, old);"


def test_every_peer_proves_what_is_right(bench: Bench) -> None:
    done = asked(bench, model(TAKEN, "if (*) { read D; }", GIVEN).replace("lock", "data D;\nlock", 1), "safe", ALL)
    assert {name: run.state for name, run in done.items()} == dict.fromkeys((ENGINE, *ALL), "right")


def test_every_peer_refutes_what_is_wrong(bench: Bench) -> None:
    done = asked(bench, model(TAKEN, "if (*) { return; }", GIVEN), "unsafe", ALL)
    assert {name: run.state for name, run in done.items()} == dict.fromkeys((ENGINE, *ALL), "right")


@pytest.mark.parametrize("place", PLACES)
def test_every_seeded_fault_is_found(bench: Bench, place: str) -> None:
    made = driver(50, 2, 1, fault=place, shape=Shape(routine=50))
    done = asked(bench, made.text, "unsafe", (spacer.BLOCKS, bounded.NAME))
    assert made.faulty
    assert {run.state for run in done.values()} == {"right"}


def decided(search: Search, out: str, bad: str) -> bool | None:
    runs = search(Transitions(ROUND.replace("OUT", out).replace("BAD", bad)), time.monotonic() + 60)
    return next(found for found in runs if found is not None)


@pytest.mark.parametrize("search", [bounded.search, induction.search])
@pytest.mark.parametrize(("limit", "safe"), [(9, True), (8, False), (7, False)])
def test_unrolling_decides_a_loop_that_ends(search: Search, limit: int, safe: bool) -> None:
    assert decided(search, BY_ONE_OR_TWO, f"(>= v0 {limit})") is safe


def test_induction_decides_a_loop_that_does_not_end() -> None:
    """Only since states have to differ: what begins with 9 could go round for ever before it is bad."""
    assert decided(induction.search, AT_LEAST_FIVE, "(= v0 9)") is True
    assert decided(induction.search, AT_LEAST_FIVE, "(= v0 5)") is False


@pytest.mark.skipif(bool(spin.MISSING), reason=f"SPIN cannot be asked: {spin.MISSING}")
@pytest.mark.parametrize("kind", ["ordered", "bug"])
def test_spin_agrees_about_philosophers(bench: Bench, kind: str) -> None:
    meeting.right(bench, "philosophers", contexts.philosophers(3, kind))
    assert len(bench.medians) == 3
    assert {run.state for run in bench.medians} == {"right"}


def test_a_wrong_verdict_is_told_and_compared_with_nothing(bench: Bench) -> None:
    tools = {"ours": lambda: Answer("safe", 1, 0), "theirs": lambda: Answer("unsafe", 5, 0)}
    done = bench.compare("asked", 1, "safe", tools, times=3)
    assert bench.faster("faster", done["ours"], done["theirs"]) is None
    assert len(bench.runs) == 4  # who is wrong is not asked again
    assert report.disagreements(bench) == ["WRONG: asked, 1: theirs: unsafe, not safe"]


def test_who_gives_up_was_slower_than_until_then(bench: Bench) -> None:
    tools = {"ours": lambda: Answer("safe", 1, 0), "theirs": lambda: Answer("unknown", 5, 0)}
    done = bench.compare("asked", 1, "safe", tools)
    assert bench.faster("faster", done["ours"], done["theirs"]) == 5
    assert "lower bound" in bench.figures[-1].note
    assert bench.faster("slower", done["theirs"], done["ours"]) is None
    assert not report.disagreements(bench)


def test_a_part_as_it_is_called(tmp_path: Path) -> None:
    """What is written fills the tables of the page."""
    output = tmp_path / "results.json"
    command = ["-m", "benchmarks", "--quick", "--limit", "0.3", "--only", "examples", "--output", str(output)]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())
    assert found["parts"] == ["examples"]
    assert {run["tool"] for run in found["medians"]} >= {ENGINE, spacer.BLOCKS, *UNROLLED}
    page = report.fill(README.read_text(), report.markdown(found))
    assert "| examples: models with a wrong verdict | 0 |" in page
    assert report.fill(page, report.markdown(found)) == page
    assert report.merged([found, found]) == found, "what is measured again counts once"
    again = {**found, "figures": [{**figure, "value": -1.0} for figure in found["figures"]]}
    assert {figure["value"] for figure in report.merged([found, again])["figures"]} == {-1.0}
    other = {
        **found,
        "parts": ["tree"],
        "figures": [{**found["figures"][0], "name": "another"}],
        "medians": [],
        "runs": [],
    }
    assert report.merged([found, other])["parts"] == ["examples", "tree"]
    assert len(report.merged([found, other])["figures"]) == len(found["figures"]) + 1


@pytest.mark.slow
def test_all_parts_in_their_quick_form() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick"], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_parts_and_targets() -> None:
    assert set(PARTS) == {"processes", "drivers", "peers", "contexts", "examples", "tree"}
    assert all(wanted.keys() <= {"most", "least"} for wanted in TARGETS.values())


def test_a_peer_is_given_what_a_target_takes_to_show(bench: Bench) -> None:
    name = "program of 3,000 statements: times faster than Spacer, one predicate a point"
    assert bench.patience(name, own=1) > 800
    assert bench.patience("one routine of 1,000 statements: times faster than Spacer, large blocks", own=1) > 300
    assert bench.patience("one routine of 20 statements: times faster than Spacer", own=1, most=5) == 5
