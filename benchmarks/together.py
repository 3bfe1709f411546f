"""Several contexts: rings, philosophers, chains of interrupts, mixed kinds, nested sections, the classic exercises.

A verdict is looked at before its time: a wrong one is an error, none at all is shown as such.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from benchmarks import contexts, spin
from benchmarks.contexts import Model
from modelcheck.engines.analyse import Analysis, Limits
from modelcheck.engines.deadlock import Deadlock
from modelcheck.lower import lower
from modelcheck.pipeline import load

DEADLOCKS = frozenset({"D01", "D02", "D03"})


class Process(Protocol):
    """A process that has ended."""

    @property
    def seconds(self) -> float: ...
    @property
    def megabytes(self) -> float: ...
    @property
    def output(self) -> str: ...


class Bench(Protocol):
    """Where figures go, and how modelcheck is run."""

    quick: bool
    folder: Path

    def add(self, name: str, value: float, unit: str, note: str = "") -> None: ...
    def point(self, series: str, size: int, seconds: float, megabytes: float) -> None: ...
    def process(self, path: Path, *flags: str) -> Process: ...


def run(bench: Bench) -> None:
    rings(bench)
    growing(bench)
    against_spin(bench)
    many_nested(bench)
    exercises(bench)


def file(bench: Bench, text: str, name: str) -> Path:
    path = bench.folder / f"{name}.drvm"
    path.write_text(text)
    return path


def checked(bench: Bench, model: Model, scenario: bool = False, times: int = 3) -> tuple[float, float, str]:
    """Median seconds and peak memory of whole processes, and what is wrong with the verdicts ("" if nothing is)."""
    path = file(bench, model.scenario if scenario else model.text, model.name)
    done = [bench.process(path, "--format", "json") for _ in range(times)]
    results = json.loads(done[0].output)["files"][0]["report"]["results"]
    note = wrong(model, results, scenario)
    return statistics.median(d.seconds for d in done), max(d.megabytes for d in done), note


def wrong(model: Model, results: list[dict[str, str]], scenario: bool) -> str:
    open_world = [r for r in results if not r.get("scenario")]
    broken = {r["code"] for r in open_world if r["verdict"] == "violated"}
    unknown = sum(r["verdict"] == "unknown" for r in results)
    if broken - model.broken:
        raise AssertionError(f"{model.name}: {sorted(broken - model.broken)} are violated, which is wrong")
    missing = model.broken - broken
    if missing and all(r["verdict"] == "proved" for r in open_world if r["code"] in missing):
        raise AssertionError(f"{model.name}: {sorted(missing)} are proved, which is wrong")
    if scenario:
        closed = [r for r in results if r.get("scenario") and r["code"] in DEADLOCKS]
        stuck = any(r["verdict"] == "violated" for r in closed)
        if (stuck and not model.stuck) or (model.stuck and not stuck and all(r["verdict"] == "proved" for r in closed)):
            raise AssertionError(f"{model.name}: the scenario is said {'' if stuck else 'not '}to deadlock")
    return f"{unknown} unknown" if unknown or missing else ""


def rings(bench: Bench) -> None:
    sizes = (2, 64) if bench.quick else (2, 4, 8, 16, 32, 64, 128, 256)
    kinds: list[tuple[str, Callable[[int], Model]]] = [
        ("ring, wrong", lambda k: contexts.ring(k, "bug")),
        ("ring, ordered", lambda k: contexts.ring(k, "ordered")),
        ("ring, gated", lambda k: contexts.ring(k, "gated")),
        ("philosophers, ordered", lambda k: contexts.philosophers(k, True)),
    ]
    for name, make in kinds:
        slowest = 0.0
        for k in sizes:
            seconds, memory, note = checked(bench, make(k), times=1 if bench.quick else 3)
            bench.point(name, k, seconds, memory)
            slowest = max(slowest, seconds) if k <= 64 else slowest
            if k > 64:
                bench.add(f"{name}, k = {k}", seconds, "s", note or f"{memory:.0f} MB")
        bench.add(f"{name}, largest up to k = 64", slowest, "s", note)


def growing(bench: Bench) -> None:
    """Chains of interrupts and mixed kinds of locks, right and wrong."""
    sizes = (2, 24) if bench.quick else (2, 4, 8, 16, 32, 64)
    for name, make in (("interrupts", contexts.preemption), ("mixed", contexts.mixed)):
        for bug in (False, True):
            label = f"{name}, wrong" if bug else name
            for k in sizes:
                seconds, memory, note = checked(bench, make(k, bug), times=1 if bench.quick else 3)
                bench.point(label, k, seconds, memory)
            bench.add(f"{label}, k = {sizes[-1]}", seconds, "s", note or f"{memory:.0f} MB")


def engine(model: Model, bench: Bench) -> float:
    """Seconds of the engines alone, from graphs to findings: the base invariant, positions, order, rings."""
    lowered = lower(load(file(bench, model.text, model.name))[0])
    gc.collect()
    gc.disable()
    started = time.perf_counter()
    analysis = Analysis(lowered, Limits())
    analysis.run()
    Deadlock(lowered, analysis, Limits(), lambda _: frozenset(), analysis.held).run(strict=False)
    seconds = time.perf_counter() - started
    gc.enable()
    return seconds


def against_spin(bench: Bench) -> None:
    """The same routines: for us in any number, for SPIN once each. Pairs run alternately."""
    if spin.MISSING:
        bench.add("SPIN", 0, "", f"skipped: {spin.MISSING}")
        return
    seconds = 8 if bench.quick else 120
    sizes = (4, 7) if bench.quick else (4, 6, 8, 10, 12, 14)
    for k in sizes:
        times = 1 if bench.quick or k > 8 else 3
        _pair(bench, f"{k} ordered philosophers", contexts.philosophers(k, True), seconds, times)
    _pair(bench, f"{sizes[-1]} crossed philosophers", contexts.philosophers(sizes[-1], False), seconds, 1)
    k = 4 if bench.quick else 8
    model = contexts.mixed(k, False)
    own = statistics.median(engine(model, bench) for _ in range(3))
    peer = spin.search(file(bench, model.scenario, "mixed_once"), seconds)
    bench.add(f"mixed, k = {k}: engine", own, "s")
    bench.add(f"mixed, k = {k}: pan alone", peer.pan, "s", _said(peer))
    bench.add(f"mixed, k = {k}: engine, times faster than pan alone", peer.pan / own, "x", _bound(peer))


def _pair(bench: Bench, name: str, model: Model, seconds: float, times: int) -> None:
    own, peers, memory, note = [], [], 0.0, ""
    for _ in range(times):
        took, memory, note = checked(bench, model, times=1)
        own.append(took)
        peers.append(spin.search(file(bench, model.scenario, f"{model.name}_once"), seconds))
    peer = peers[0]
    expected = "deadlock" if model.stuck else "none"
    if any(p.verdict not in (expected, "unknown") for p in peers):
        raise AssertionError(f"{name}: SPIN says {peer.verdict}, which is wrong")
    ours, theirs = statistics.median(own), statistics.median(p.pan for p in peers)
    size = len(model.runs)
    kind = "wrong" if model.stuck else "right"
    bench.point(f"modelcheck, philosophers, {kind}", size, ours, memory)
    bench.point(f"SPIN, philosophers, {kind}", size, theirs, peer.megabytes)
    bench.add(f"{name}: whole process", ours, "s", note)
    bench.add(f"{name}: peak memory", memory, "MB")
    bench.add(f"{name}: pan alone", theirs, "s", f"{_said(peer)}; {peer.whole - peer.pan:.1f} s to make it")
    bench.add(f"{name}: times faster than SPIN", theirs / ours, "x", _bound(peer))


def _said(peer: spin.Search) -> str:
    if peer.verdict == "unknown":
        return f"gave up, {peer.megabytes:.0f} MB"
    return f"{'a deadlock' if peer.verdict == 'deadlock' else 'none'}, {peer.states:,} states, {peer.megabytes:.0f} MB"


def _bound(peer: spin.Search) -> str:
    return "a lower bound: SPIN gave up" if peer.verdict == "unknown" else ""


def many_nested(bench: Bench) -> None:
    routines, locks, acquisitions = (50, 50, 500) if bench.quick else (200, 50, 10_000)
    model = contexts.nested(routines, locks, acquisitions)
    seconds, memory, note = checked(bench, model, times=1)
    name = f"{routines} routines, {locks} locks, {acquisitions:,} nested acquisitions"
    bench.add(name, seconds, "s", note or f"{memory:.0f} MB")


def exercises(bench: Bench) -> None:
    slowest = {False: (0.0, ""), True: (0.0, "")}
    trouble = 0
    for k in (3,) if bench.quick else (3, 5, 7):
        for name, model in contexts.classic(k):
            for scenario in (True,) if bench.quick else (False, True):
                seconds, memory, note = checked(bench, model, scenario, times=1 if bench.quick else 3)
                trouble += bool(note)
                series = f"{name}, {'scenario' if scenario else 'open world'}"
                bench.point(series, k, seconds, memory)
                slowest[scenario] = max(slowest[scenario], (seconds, f"{name}, {k}"))
    if not bench.quick:
        bench.add("classic suites, slowest, open world", slowest[False][0], "s", slowest[False][1])
    bench.add("classic suites, slowest, scenario", slowest[True][0], "s", slowest[True][1])
    bench.add("classic suites: wrong or missing verdicts", trouble, "")
