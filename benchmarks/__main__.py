"""Measures modelcheck beside its peers and prints one table; `python -m benchmarks [--quick] [--only PART ..]`.

Whole processes are measured as a user waits for them, stages inside this process. Each figure is the median of its
runs. Verdicts come first: a wrong one ends the run. It ends with the figures that fall short of `targets.toml`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import horn, spin, together
from benchmarks.generator import Driver, driver
from benchmarks.plots import Point, draw, exponent, groups
from modelcheck.engines.analyse import Analysis, Broken, Limits
from modelcheck.evidence.certify import certify
from modelcheck.evidence.conditions import Pool, conditions, life_conditions
from modelcheck.lower import Lowered, every_graph, lower
from modelcheck.pipeline import load

LOCKS = 8
TARGETS = tomllib.loads((Path(__file__).parent / "targets.toml").read_text())
NO_SOLVER = (
    "import sys; from modelcheck.cli import main\ntry: main(sys.argv[1:])\nfinally: assert 'z3' not in sys.modules"
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One row."""

    name: str
    value: float
    unit: str
    note: str = ""

    @property
    def target(self) -> str:
        """What is to be reached, "" if nothing is."""
        wanted = TARGETS.get(self.name, {})
        return " ".join(f"{'<=' if key == 'most' else '>='} {value:g}" for key, value in wanted.items())

    @property
    def met(self) -> bool:
        wanted = TARGETS.get(self.name, {})
        return bool(wanted.get("least", self.value) <= self.value <= wanted.get("most", self.value))


@dataclass(frozen=True, slots=True)
class Process:
    """A process that has ended: wall-clock seconds, peak memory in MB, exit status, what it printed."""

    seconds: float
    megabytes: float
    status: int
    output: str


LAUNCH = """
import json, os, subprocess, sys, time
started = time.perf_counter()
child = subprocess.Popen(sys.argv[2:], stdout=open(sys.argv[1], "wb"), stderr=subprocess.STDOUT)
_, status, usage = os.wait4(child.pid, 0)
seconds = time.perf_counter() - started
print(json.dumps([seconds, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)]))
"""
"""A process starts with the peak memory of the one it is forked from, so that one has to be small."""


def run(*arguments: str) -> Process:
    """Runs Python with these arguments, with compiled modules at hand as after an installation."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "modelcheck-benchmarks")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["MODELCHECK_CACHE"] = "off"  # nothing here is about verdicts that are kept
    with tempfile.NamedTemporaryFile("r", errors="replace") as output:
        command = [sys.executable, "-I", "-S", "-c", LAUNCH, output.name, sys.executable, *arguments]
        told = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        seconds, megabytes, status = json.loads(told.stdout)
        return Process(seconds, megabytes, status, output.read())


def median(measure: Callable[[], float], times: int) -> float:
    return statistics.median(measure() for _ in range(times))


class Benchmark:
    """All figures, with models in `folder`."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        self.times = 2 if quick else 5
        self.figures: list[Figure] = []
        self.points: list[Point] = []

    def add(self, name: str, value: float, unit: str, note: str = "") -> None:
        figure = Figure(name, value, unit, note)
        self.figures.append(figure)
        print(line(figure), flush=True)

    def point(self, series: str, size: int, seconds: float, megabytes: float) -> None:
        self.points.append(Point(series, size, seconds, megabytes))

    def process(self, path: Path, *flags: str) -> Process:
        """A whole `modelcheck verify` that gives an answer."""
        done = run("-m", "modelcheck", "verify", *flags, str(path))
        if done.status not in (0, 1, 3):
            raise AssertionError(f"exit status {done.status}:\n{done.output[-2000:]}")
        return done

    def run(self, parts: frozenset[str]) -> None:
        if "one" in parts:
            self.commands()
            self.small()
            self.scaling()
            self.against_spacer()
            self.without_parser()
            self.many_locks()
            self.certificates()
        if "together" in parts:
            together.run(self)

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
            seconds = median(lambda given=arguments: run("-m", "modelcheck", *given).seconds, self.times)  # type: ignore[misc]
            self.add(f"{name}, process", seconds, "s")

    def small(self) -> None:
        tiny = self.file(driver(20, 1), "tiny")
        self.add("verify 20 statements, process", median(lambda: self.verify(tiny).seconds, self.times), "s")
        path = self.file(driver(500, LOCKS), "small")
        wrong = self.file(driver(500, LOCKS, bug=True), "bug")
        assert run("-m", "modelcheck", "verify", str(wrong)).status == 1, "the seeded bug was not found"
        self.add("verify 500 statements, process", median(lambda: self.verify(path).seconds, self.times), "s")
        self.add("the same with a seeded bug", median(lambda: self.verify(wrong, 1).seconds, 3), "s")

    def verify(self, path: Path, status: int = 0) -> Process:
        """A whole `modelcheck verify`; a wrong verdict is an error."""
        done = run("-m", "modelcheck", "verify", str(path))
        if done.status != status:
            raise AssertionError(f"exit status {done.status}, not {status}:\n{done.output[-2000:]}")
        return done

    def scaling(self) -> None:
        sizes = (
            ((1_000, 1), (3_000, 1), (10_000, 1))
            if self.quick
            else ((3_000, 3), (10_000, 3), (30_000, 1), (100_000, 1), (300_000, 1))
        )
        points: list[tuple[float, float]] = []
        rest: list[tuple[float, float]] = []
        for size, times in sizes:
            model = driver(size, LOCKS)
            path = self.file(model, f"size{size}")
            done = [self.verify(path) for _ in range(times)]
            seconds = statistics.median(d.seconds for d in done)
            memory = max(d.megabytes for d in done)
            points.append((model.statements, seconds))
            rest.append((model.statements, seconds - median(lambda given=path: _parsing(given), times)))  # type: ignore[misc]
            self.point(f"one context, {LOCKS} locks", model.statements, seconds, memory)
            self.add(f"verify {size:,} statements, {LOCKS} locks, process", seconds, "s")
            self.add(f"peak memory of {size:,} statements", memory, "MB")
            self.add(f"share outside the parser, {size:,} statements", 100 * rest[-1][1] / seconds, "%")
        self.add("fitted exponent, statements", exponent(points), "")
        large = [point for point in points if point[0] >= 9_000]
        if len(large) > 1:
            self.add("fitted exponent, from 10,000 statements on", exponent(large), "")
            self.add("the same without the parser", exponent(rest[-len(large) :]), "")

    def certificates(self) -> None:
        """Proving, and proving again: what cvc5 needs for the certificates over what a verification takes."""
        path = self.file(driver(1_000 if self.quick else 10_000, LOCKS), "proved")
        proofs = self.folder / "proofs"
        proved = run("-m", "modelcheck", "verify", "--proofs", str(proofs), str(path)).seconds
        again = run("-m", "modelcheck", "recheck", str(proofs))
        assert again.status == 0, again.output
        self.add("certificates: re-check in cvc5 over proving, processes", again.seconds / proved, "x")

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
            self.add(f"routine {seed}: Spacer, large blocks", peer.seconds, "s", note)
        self.add("times faster than Spacer, large blocks, median", statistics.median(ratios), "x")
        self.add("times faster than Spacer, large blocks, least", min(ratios), "x")

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
        seconds = median(lambda: stages(lowered).seconds, 1)
        each = seconds * 1000 / model.statements * 1000
        self.add(f"{routines:,} routines of 100 statements: fixpoint and certificates", each, "ms/1000 st.")

    def many_locks(self) -> None:
        size = 1_000 if self.quick else 10_000
        found = []
        for locks in (1, 64) if self.quick else (1, 64, 1024):
            path = self.file(driver(size, locks), f"locks{locks}")
            found.append(median(lambda given=path: self.verify(given).seconds, 1 if self.quick else 3))  # type: ignore[misc]
            self.add(f"verify {size:,} statements, {locks} locks, process", found[-1], "s")
        self.add(f"from 1 to {'64' if self.quick else '1,024'} locks, same statements", found[-1] / found[0], "x")


def _parsing(path: Path) -> float:
    """Seconds to read, parse, resolve and check a file."""
    started = time.perf_counter()
    load(path)
    return time.perf_counter() - started


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


def line(figure: Figure) -> str:
    met = "" if not figure.target else "met" if figure.met else "MISSED"
    return f"{figure.name:62} {figure.value:10.3f} {figure.unit:12} {figure.target:9} {met:6} {figure.note}".rstrip()


def markdown(benchmark: Benchmark) -> str:
    """The figures as a table, and the exponent of each series."""
    rows = ["| figure | measured | target | | |", "|---|---|---|---|---|"]
    for figure in benchmark.figures:
        met = "" if not figure.target else "met" if figure.met else "**missed**"
        rows.append(f"| {figure.name} | {figure.value:.3g} {figure.unit} | {figure.target} | {met} | {figure.note} |")
    rows += ["", "| series | sizes | exponent of time | of memory |", "|---|---|---|---|"]
    for name, own in sorted(groups(benchmark.points).items()):
        time_ = exponent([(p.size, p.seconds) for p in own])
        memory = exponent([(p.size, p.megabytes) for p in own])
        rows.append(f"| {name} | {own[0].size:,} to {own[-1].size:,} | {time_:.2f} | {memory:.2f} |")
    return "\n".join(rows) + "\n"


def machine() -> dict[str, object]:
    """What it was measured on and with."""
    from importlib.metadata import version

    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "z3-solver": version("z3-solver"),
        "spin": spin.version(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, within 90 s")
    parser.add_argument("--only", choices=("one", "together"), action="append", help="one context, or several")
    parser.add_argument("--output", type=Path, help="write the figures as JSON, a .md beside it, and plots")
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(Path(folder), options.quick)
        benchmark.run(frozenset(options.only or ("one", "together")))
    print(f"{time.perf_counter() - started:.0f} s")
    if options.output is not None:
        figures = [asdict(f) | {"target": f.target, "met": f.met} for f in benchmark.figures]
        points = [asdict(point) for point in benchmark.points]
        options.output.parent.mkdir(parents=True, exist_ok=True)
        everything = {"machine": machine(), "figures": figures, "points": points}
        options.output.write_text(json.dumps(everything, indent=2) + "\n")
        options.output.with_suffix(".md").write_text(markdown(benchmark))
        for file in draw(benchmark.points, options.output.parent):
            print(file)
    short = [figure for figure in benchmark.figures if not figure.met]
    for figure in short:
        print(f"falls short: {figure.name}: {figure.value:.3g} {figure.unit}, to be {figure.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
