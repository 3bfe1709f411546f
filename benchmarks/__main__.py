"""Measures modelcheck and prints one table; `python -m benchmarks [--quick] [--output FILE]`.

Whole processes are measured as a user waits for them, stages inside this process. Each figure is the median of its
runs.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import horn
from benchmarks.generator import Driver, driver
from modelcheck.engines.analyse import Analysis, Broken, Limits
from modelcheck.evidence.certify import certify
from modelcheck.evidence.conditions import Pool, conditions, life_conditions
from modelcheck.lower import Lowered, every_graph, lower
from modelcheck.pipeline import load

LOCKS = 8
NO_SOLVER = (
    "import sys; from modelcheck.cli import main\ntry: main(sys.argv[1:])\nfinally: assert 'z3' not in sys.modules"
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One row. `target` is what `value` is compared with; `at_least` says that more is better."""

    name: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool:
        if self.target is None:
            return True
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass(frozen=True, slots=True)
class Process:
    """A process that has ended: wall-clock seconds, peak memory in MB, exit status, what it printed."""

    seconds: float
    megabytes: float
    status: int
    output: str


def run(*arguments: str) -> Process:
    """Runs Python with these arguments, with compiled modules at hand as after an installation."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "modelcheck-benchmarks")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["MODELCHECK_CACHE"] = "off"  # nothing here is about verdicts that are kept
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, *arguments], stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        return Process(seconds, usage.ru_maxrss / 1024, child.returncode, output.read())


def median(measure: Callable[[], float], times: int) -> float:
    return statistics.median(measure() for _ in range(times))


class Benchmark:
    """All figures, with models in `folder`."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        self.figures: list[Figure] = []

    def add(self, *row: object, **more: object) -> None:
        figure = Figure(*row, **more)  # type: ignore[arg-type]
        self.figures.append(figure)
        print(line(figure), flush=True)

    def run(self) -> None:
        self.commands()
        self.small()
        self.scaling()
        self.against_spacer()
        self.without_parser()
        self.many_locks()

    def file(self, model: Driver | str, name: str) -> Path:
        path = self.folder / f"{name}.drvm"
        path.write_text(model if isinstance(model, str) else model.text)
        return path

    # ---- whole processes ----

    def commands(self) -> None:
        """What needs no solver, and must not import one."""
        wrong = self.file("driver wrong;\nroutine R() { if }\n", "wrong")
        for name, arguments, status in (("--help", ["--help"], 0), ("a syntax error", ["verify", str(wrong)], 2)):
            checked = run("-c", NO_SOLVER, *arguments)
            assert "AssertionError" not in checked.output, "z3 was imported"
            assert run("-m", "modelcheck", *arguments).status == status
            seconds = median(lambda given=arguments: run("-m", "modelcheck", *given).seconds, 5)  # type: ignore[misc]
            self.add(f"{name}, process", seconds, "s", 0.15)

    def small(self) -> None:
        path = self.file(driver(500, LOCKS), "small")
        wrong = self.file(driver(500, LOCKS, bug=True), "bug")
        assert run("-m", "modelcheck", "verify", str(wrong)).status == 1, "the seeded bug was not found"
        self.add("verify 500 statements, process", median(lambda: self.verify(path).seconds, 5), "s", 1.0)
        self.add("the same with a seeded bug", median(lambda: self.verify(wrong, 1).seconds, 3), "s")

    def verify(self, path: Path, status: int = 0) -> Process:
        """A whole `modelcheck verify`; a wrong verdict is an error."""
        done = run("-m", "modelcheck", "verify", str(path))
        if done.status != status:
            raise AssertionError(f"exit status {done.status}, not {status}:\n{done.output[-2000:]}")
        return done

    def scaling(self) -> None:
        sizes = (
            ((1_000, 3), (3_000, 3), (10_000, 1))
            if self.quick
            else ((3_000, 3), (10_000, 3), (30_000, 1), (100_000, 1))
        )
        targets = {10_000: 4.0, 100_000: 40.0}
        points: list[tuple[float, float]] = []
        for size, times in sizes:
            model = driver(size, LOCKS)
            path = self.file(model, f"size{size}")
            done = [self.verify(path) for _ in range(times)]
            seconds = statistics.median(d.seconds for d in done)
            memory = max(d.megabytes for d in done)
            points.append((model.statements, seconds))
            self.add(f"verify {size:,} statements, {LOCKS} locks, process", seconds, "s", targets.get(size))
            self.add(f"  peak memory of {size:,} statements", memory, "MB", 1536 if size == 100_000 else None)
        self.add("  fitted exponent", exponent(points), "", 1.1)

    # ---- stages ----

    def against_spacer(self) -> None:
        """Several routines: how long Spacer needs differs much from one to the next."""
        size, seconds = (400, 10) if self.quick else (3_000, 120)
        ratios: list[float] = []
        for seed in range(1 if self.quick else 5):
            own, peer = self.pair(size, seconds, seed)
            ratios.append(peer.seconds / own)
            self.add(f"routine {seed} of {size:,} statements: fixpoint and certificate", own, "s")
            note = "agrees" if peer.verdict != "unknown" else "gave up: a lower bound"
            self.add("  Spacer, large blocks, the same routine", peer.seconds, "s", note=note)
        self.add("  times faster, median", statistics.median(ratios), "x", 300, at_least=True)
        self.add("  times faster, least", min(ratios), "x")

    def pair(self, size: int, seconds: int, seed: int) -> tuple[float, horn.Answer]:
        """Seconds that modelcheck needs for a routine, and what Spacer makes of it."""
        path = self.file(driver(size, LOCKS, seed, routine=size), "routine")
        lowered = lower(load(path)[0])
        own = median(lambda: stages(lowered).seconds, 3)
        analysis = stages(lowered).analysis
        root = next(root for root in lowered.roots if root.routine.startswith("Serve"))
        numbers = frozenset(
            number
            for graph in every_graph([root.graph])
            for edge in graph.edges
            for number in (*edge.obligations, *(check.obligation for check in edge.checks))
            if number in analysis.decisions and number not in lowered.questions
        )
        peer = horn.solve(root, numbers, analysis.lives[root], seconds)
        safe = not any(isinstance(analysis.decisions[number], Broken) for number in numbers)
        assert peer.verdict in ("unknown", "safe" if safe else "unsafe"), "Spacer disagrees"
        return own, peer

    def without_parser(self) -> None:
        routines = 100 if self.quick else 1_000
        model = driver(routines * 100, LOCKS)
        lowered = lower(load(self.file(model, "routines"))[0])
        seconds = median(lambda: stages(lowered).seconds, 3 if self.quick else 1)
        each = seconds * 1000 / model.statements * 1000
        self.add(f"{routines:,} routines of 100 statements: fixpoint and certificates", each, "ms/1000 st.", 15)

    def many_locks(self) -> None:
        size = 1_000 if self.quick else 10_000
        for locks in (1, 64) if self.quick else (1, 64, 1024):
            path = self.file(driver(size, locks), f"locks{locks}")
            self.add(f"verify {size:,} statements, {locks} locks, process", self.verify(path).seconds, "s")


@dataclass(frozen=True, slots=True)
class Stages:
    seconds: float
    analysis: Analysis


def stages(lowered: Lowered) -> Stages:
    """Fixpoint, conditions and their check by Z3; without garbage collection, as on the command line."""
    gc.collect()
    gc.disable()
    started = time.perf_counter()
    analysis = Analysis(lowered, Limits())
    analysis.run()
    pool = Pool()
    for number, invariant in enumerate(analysis.invariants):
        conditions(invariant, number, lowered.roots, pool)
    life_conditions(analysis.invariants, [], lowered.roots, pool)
    checked = certify(pool, 60_000)
    seconds = time.perf_counter() - started
    gc.enable()
    assert not checked.rejected
    assert not checked.unanswered
    return Stages(seconds, analysis)


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line through the points on logarithmic axes, least squares."""
    xs = [math.log(size) for size, _ in points]
    ys = [math.log(seconds) for _, seconds in points]
    x, y = statistics.fmean(xs), statistics.fmean(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def line(figure: Figure) -> str:
    target = "" if figure.target is None else f"{'>=' if figure.at_least else '<='} {figure.target:g}"
    met = "" if figure.target is None else "met" if figure.met else "MISSED"
    return f"{figure.name:62} {figure.value:10.3f} {figure.unit:12} {target:9} {met:6} {figure.note}".rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, within a minute")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(Path(folder), options.quick)
        benchmark.run()
    print(f"{time.perf_counter() - started:.0f} s")
    if options.output is not None:
        machine = {"python": platform.python_version(), "machine": platform.machine(), "processors": os.cpu_count()}
        figures = [asdict(figure) | {"met": figure.met} for figure in benchmark.figures]
        options.output.write_text(json.dumps({"machine": machine, "figures": figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
