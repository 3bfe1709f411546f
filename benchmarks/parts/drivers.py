"""Generated drivers of every size and shape, whole processes; the parser's share of it; certificates in cvc5."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from benchmarks.measure import Bench, Run, python
from benchmarks.own import PROCESS, Results, certified, middle, whole
from benchmarks.plots import exponent
from benchmarks.workloads.drivers import PLACES, Driver, Shape, driver
from modelcheck.lower import lower
from modelcheck.pipeline import load

LOCKS = 8


def run(bench: Bench) -> None:
    sizes(bench)
    locks(bench)
    shapes(bench)
    faults(bench)
    without_parser(bench)
    certificates(bench)


def verified(bench: Bench, workload: str, size: int, model: Driver, times: int) -> Run:
    """Whole processes on a right driver."""
    ask = partial(whole, bench.file(model.text, "driver"))
    return bench.compare(workload, size, "safe", {PROCESS: ask}, times)[PROCESS]


def sizes(bench: Bench) -> None:
    wanted = (100, 1_000, 10_000) if bench.quick else (100, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
    points: list[tuple[float, float]] = []
    rest: list[tuple[float, float]] = []
    for size in (size for size in wanted if size <= bench.largest):
        model = driver(size, LOCKS)
        times = 1 if bench.quick or size > 10_000 else 3
        done = verified(bench, f"drivers, {LOCKS} locks", model.statements, model, times)
        parsing = middle(partial(_parsing, bench.folder / "driver.drvm"), times)
        bench.figure(f"verify {size:,} statements, {LOCKS} locks, process", done.seconds, "s", done.state)
        bench.figure(f"peak memory of {size:,} statements", done.answer.megabytes, "MB")
        bench.figure(f"share outside the parser, {size:,} statements", 100 * (1 - parsing / done.seconds), "%")
        if size >= 10_000:
            points.append((model.statements, done.seconds))
            rest.append((model.statements, done.seconds - parsing))
    if len(points) > 1:
        bench.figure("fitted exponent, from 10,000 statements on", exponent(points), "")
        bench.figure("the same without the parser", exponent(rest), "")


def _parsing(path: Path) -> float:
    """Seconds to read, parse, resolve and check a file."""
    started = time.perf_counter()
    load(path)
    return time.perf_counter() - started


def locks(bench: Bench) -> None:
    size = 1_000 if bench.quick else 10_000
    counts = (1, 64) if bench.quick else (1, 8, 64, 1024)
    times = 1 if bench.quick else 3
    done = [verified(bench, f"locks, {size:,} statements", n, driver(size, n), times) for n in counts]
    bench.figure(f"from 1 to {counts[-1]:,} locks, same statements", done[-1].seconds / done[0].seconds, "x")


def shapes(bench: Bench) -> None:
    """One thing of the shape varied at a time."""
    size = 1_000 if bench.quick else 10_000
    few = bench.quick
    varied = [
        ("call depth", {n: Shape(depth=n) for n in ((0, 8) if few else (0, 1, 3, 8, 16))}),
        ("branching", {n: Shape(branching=n) for n in ((1, 16) if few else (1, 4, 16, 64))}),
        ("correlated flags", {n: Shape(flags=n) for n in ((1, 4) if few else (1, 2, 4, 8))}),
    ]
    for name, wanted in varied:
        made = {n: driver(size, 64, shape=shape) for n, shape in wanted.items()}
        done = {n: verified(bench, f"{name}, {size:,} statements", n, model, 1) for n, model in made.items()}
        first, *_, last = done
        note = "gave up" if any(one.state != "right" for one in done.values()) else ""
        bench.figure(
            f"{name}: {last} over {first}, {size:,} statements", done[last].seconds / done[first].seconds, "x", note
        )


def faults(bench: Bench) -> None:
    """One release left out, early, in the middle, at the end of the driver."""
    for size in (500,) if bench.quick else (500, 3_000, 10_000):
        for place in PLACES:
            model = driver(size, LOCKS, fault=place)
            ask = partial(whole, bench.file(model.text, "fault"), partial(_complaint, model))
            tools = {PROCESS: ask}
            done = bench.compare(f"drivers, a fault: {place}", model.statements, "unsafe", tools)[PROCESS]
            bench.figure(f"{size:,} statements, a fault: {place}, process", done.seconds, "s", done.answer.note)


def _complaint(model: Driver, results: Results) -> str:
    """A lock that is kept makes others wait: of what one context breaks alone, all is in the routine with the fault."""
    broken = {r["routine"] for r in results if r["verdict"] == "violated" and not r["code"].startswith("D")}
    return "" if broken == {model.faulty} else f"broken: {sorted(broken)}, the fault is in {model.faulty}"


def without_parser(bench: Bench) -> None:
    routines = 100 if bench.quick or bench.largest < 100_000 else 1_000
    model = driver(routines * 100, LOCKS)
    lowered = lower(load(bench.file(model.text, "routines"))[0])
    each = certified(lowered).seconds * 1000 / model.statements * 1000
    bench.figure(f"{routines:,} routines of 100 statements: fixpoint and certificates", each, "ms/1000 st.")


def certificates(bench: Bench) -> None:
    """Proving, and proving again: what cvc5 needs for the certificates."""
    path = bench.file(driver(1_000 if bench.quick else 10_000, LOCKS).text, "proved")
    proofs = bench.folder / "proofs"
    proved = python("-m", "modelcheck", "verify", "--proofs", str(proofs), str(path))
    again = python("-m", "modelcheck", "recheck", str(proofs))
    if proved.status != 0 or again.status != 0:
        bench.figure("certificates: re-check in cvc5 over proving, processes", None, "x", f"exit {again.status}")
        return
    bench.figure("certificates: proving, process", proved.seconds, "s")
    bench.figure("certificates: re-check in cvc5, process", again.seconds, "s", again.output.strip()[-60:])
    bench.figure("certificates: re-check in cvc5 over proving, processes", again.seconds / proved.seconds, "x")
