"""Several contexts: rings, philosophers, chains of interrupts, mixed kinds, nested sections, the classic exercises.

modelcheck decides them for any number of contexts, SPIN the exported scenario in which each routine runs once. No form
of several contexts is exported for Spacer, bounded model checking and k-induction.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.measure import Answer, Bench, Run
from benchmarks.own import ENGINE, PROCESS, Results, meeting, whole
from benchmarks.peers import spin
from benchmarks.workloads import contexts
from benchmarks.workloads.contexts import Model
from modelcheck.export.promela import promela
from modelcheck.lower import lower
from modelcheck.lower.closed import lower_scenarios
from modelcheck.pipeline import load

DEADLOCKS = frozenset({"D01", "D02", "D03"})


def run(bench: Bench) -> None:
    rings(bench)
    growing(bench)
    against_spin(bench)
    many_nested(bench)
    exercises(bench)


def process(bench: Bench, model: Model, scenario: bool = False) -> Callable[[], Answer]:
    """A whole process on a model, its verdicts looked at one by one."""
    path = bench.file(model.scenario if scenario else model.text, f"{model.name}_{len(model.runs)}_{scenario}")
    return partial(whole, path, partial(complaint, model, scenario))


def complaint(model: Model, scenario: bool, results: Results) -> str:
    open_world = [r for r in results if not r.get("scenario")]
    broken = {r["code"] for r in open_world if r["verdict"] == "violated"}
    if broken - model.broken:
        return f"{sorted(broken - model.broken)} violated"
    missing = model.broken - broken
    if missing and all(r["verdict"] == "proved" for r in open_world if r["code"] in missing):
        return f"{sorted(missing)} proved"
    if scenario:
        closed = [r for r in results if r.get("scenario") and r["code"] in DEADLOCKS]
        stuck = any(r["verdict"] == "violated" for r in closed)
        if (stuck and not model.stuck) or (model.stuck and not stuck and all(r["verdict"] == "proved" for r in closed)):
            return f"the scenario is said {'' if stuck else 'not '}to deadlock"
    return ""


def expected(model: Model) -> str:
    return "unsafe" if model.broken else "safe"


def family(bench: Bench, name: str, make: Callable[[int], Model], sizes: tuple[int, ...]) -> dict[int, Run]:
    """A model in several sizes."""
    found = {}
    for k in sizes:
        model = make(k)
        tools = {PROCESS: process(bench, model)}
        found[k] = bench.compare(name, k, expected(model), tools, 1 if bench.quick else 3)[PROCESS]
    return found


def rings(bench: Bench) -> None:
    sizes = (2, 64) if bench.quick else (2, 4, 8, 16, 32, 64, 128, 256)
    kinds: list[tuple[str, Callable[[int], Model]]] = [
        ("ring, wrong", lambda k: contexts.ring(k, "bug")),
        ("ring, ordered", lambda k: contexts.ring(k, "ordered")),
        ("ring, gated", lambda k: contexts.ring(k, "gated")),
        ("philosophers, ordered", lambda k: contexts.philosophers(k, "ordered")),
        ("philosophers, gated", lambda k: contexts.philosophers(k, "gated")),
    ]
    for name, make in kinds:
        done = family(bench, name, make, sizes)
        slowest = max(run.seconds for k, run in done.items() if k <= 64)
        bench.figure(f"{name}, largest up to k = 64", slowest, "s")
        for k in (k for k in sizes if k > 64):
            bench.figure(f"{name}, k = {k}", done[k].seconds, "s", f"{done[k].answer.megabytes:.0f} MB")


def growing(bench: Bench) -> None:
    """Chains of interrupts and mixed kinds of locks, right and wrong."""
    sizes = (2, 24) if bench.quick else (2, 4, 8, 16, 32, 64, 128, 256)
    for name, make in (("interrupts", contexts.preemption), ("mixed", contexts.mixed)):
        for bug in (False, True):
            label = f"{name}, wrong" if bug else name
            done = family(bench, label, lambda k, bug=bug, make=make: make(k, bug), sizes)  # type: ignore[misc]
            for k in (k for k in sizes if k >= min(64, sizes[-1])):
                bench.figure(f"{label}, k = {k}", done[k].seconds, "s", f"{done[k].answer.megabytes:.0f} MB")


def engine(bench: Bench, model: Model) -> Callable[[], Answer]:
    """The engines alone, from graphs to certified findings."""
    return partial(meeting, lower(load(bench.file(model.text, model.name))[0]))


class Spin:
    """One search of SPIN for two tools: `pan` alone, and with making and compiling it."""

    def __init__(self, bench: Bench, model: Model) -> None:
        self.bench = bench
        path = bench.file(model.scenario, f"{model.name}_once")
        self.text = promela(lower_scenarios(load(path)[0])[0])
        self.found: spin.Search | None = None

    def tools(self) -> dict[str, Callable[[], Answer]]:
        return {spin.PAN: self.pan, spin.WHOLE: self.whole}

    def pan(self) -> Answer:
        self.found = spin.search(self.text, self.bench.limit, self.bench.folder)
        return self.found.pan

    def whole(self) -> Answer:
        assert self.found is not None, "pan is asked first"
        return self.found.whole


def against_spin(bench: Bench) -> None:
    """The same routines: for us in any number, for SPIN once each."""
    if spin.MISSING:
        bench.skip("SPIN", spin.MISSING)
        return
    sizes = (7,) if bench.quick else (4, 6, 8, 10, 12, 14)
    for k in sizes:
        right(bench, f"{k} ordered philosophers", contexts.philosophers(k, "ordered"))
    right(bench, f"{sizes[-1]} crossed philosophers", contexts.philosophers(sizes[-1], "bug"))
    for k in (4,) if bench.quick else (4, 6, 8):
        for bug in (False, True):
            model = contexts.mixed(k, bug)
            tools = {ENGINE: engine(bench, model)} | Spin(bench, model).tools()
            done = bench.compare(f"mixed{', wrong' if bug else ''}, beside SPIN", k, expected(model), tools, 1)
            name = f"mixed{', wrong' if bug else ''}, k = {k}: engine, times faster than pan alone"
            bench.faster(name, done[ENGINE], done[spin.PAN])


def right(bench: Bench, name: str, model: Model) -> None:
    """Whole processes of both on the same philosophers."""
    k = len(model.runs)
    tools = {PROCESS: process(bench, model)} | Spin(bench, model).tools()
    workload = f"philosophers{', wrong' if model.stuck else ''}, beside SPIN"
    done = bench.compare(workload, k, expected(model), tools, 1 if bench.quick or k > 8 else 3)
    bench.figure(f"{name}: peak memory", done[PROCESS].answer.megabytes, "MB")
    bench.faster(f"{name}: times faster than SPIN", done[PROCESS], done[spin.PAN])


def many_nested(bench: Bench) -> None:
    routines, locks, acquisitions = (50, 50, 500) if bench.quick else (200, 50, 10_000)
    model = contexts.nested(routines, locks, acquisitions)
    done = bench.compare("nested sections", acquisitions, "safe", {PROCESS: process(bench, model)})[PROCESS]
    name = f"{routines} routines, {locks} locks, {acquisitions:,} nested acquisitions"
    bench.figure(name, done.seconds, "s", f"{done.answer.megabytes:.0f} MB")


def exercises(bench: Bench) -> None:
    trouble = 0
    for scenario in (True,) if bench.quick else (False, True):
        kind = "scenario" if scenario else "open world"
        slowest: tuple[float, str] = (0.0, "")
        for k in (3,) if bench.quick else (3, 5, 7):
            for name, model in contexts.classic(k):
                tools = {PROCESS: process(bench, model, scenario)}
                done = bench.compare(f"{name}, {kind}", k, expected(model), tools, 1 if bench.quick else 3)[PROCESS]
                trouble += done.state != "right" or bool(done.answer.note)
                slowest = max(slowest, (done.seconds, f"{name}, {k}"))
        bench.figure(f"classic suites, slowest, {kind}", slowest[0], "s", slowest[1])
    bench.figure("classic suites: wrong or missing verdicts", trouble, "")
