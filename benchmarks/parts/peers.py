"""The engine beside Spacer, bounded model checking and k-induction: one routine, and whole programs as one question.

Our time is that of all obligations from graphs to certified verdicts; a peer's is that of the obligations that one
context alone can break, without reading its files. A peer that unrolls is not asked about what is larger than what it
gave up on.
"""

from __future__ import annotations

import math
import statistics
from functools import partial

from benchmarks.measure import SECONDS_FAULT, Bench, Run
from benchmarks.own import ENGINE, certified, engine
from benchmarks.peers.question import SPACER, UNROLLED, Question
from benchmarks.workloads.drivers import PLACES, Driver, Shape, driver
from modelcheck.lower import lower
from modelcheck.pipeline import load

LOCKS = 8


def run(bench: Bench) -> None:
    routines(bench)
    programs(bench)
    faults(bench)


def beside(
    bench: Bench, workload: str, model: Driver, peers: tuple[str, ...], most: float = math.inf
) -> dict[str, Run]:
    """The engine and peers in turn on a driver; a peer has `most` seconds at most."""
    lowered = lower(load(bench.file(model.text, "beside"))[0])
    question = Question(lowered, certified(lowered).analysis.lives)  # the first run, which is not counted
    tools = {ENGINE: partial(engine, lowered, question.numbers)} | question.tools(
        peers, min(bench.limit, most), bench.folder
    )
    expected = "unsafe" if model.faulty else "safe"
    return bench.compare(workload, model.statements, expected, tools, 1 if bench.quick else 3)


def still(peers: tuple[str, ...], done: dict[str, Run]) -> tuple[str, ...]:
    """The peers to ask about something larger."""
    return tuple(name for name in peers if name not in UNROLLED or done[name].state == "right")


def routines(bench: Bench) -> None:
    peers: tuple[str, ...] = (*SPACER, *UNROLLED)
    for size in (20, 100) if bench.quick else (20, 50, 100, 300, 1_000, 3_000):
        ratios: dict[str, list[float | None]] = {name: [] for name in SPACER}
        for seed in range(5 if size == 1_000 else 1):
            model = driver(size, LOCKS if size > 50 else 2, seed, shape=Shape(routine=size))
            done = beside(bench, "one routine" if seed == 0 else f"one routine, seed {seed}", model, peers)
            for name in SPACER:
                label = f"one routine of {size:,} statements, seed {seed}: times faster than {name}"
                ratios[name].append(bench.faster(label, done[ENGINE], done[name]))
            peers = still(peers, done)
        for name, found in ratios.items():
            known = [value for value in found if value is not None]
            if len(found) > 1:
                label = f"one routine of {size:,} statements: times faster than {name}, median"
                bench.figure(label, statistics.median(known) if known else None, "x", f"of {len(known)} routines")


def programs(bench: Bench) -> None:
    """Routines of 100 statements: one Horn system for all of them."""
    peers: tuple[str, ...] = (*SPACER, *UNROLLED)
    for size in (300,) if bench.quick else (300, 1_000, 3_000):
        for seed in range(3 if size == 1_000 else 1):
            model = driver(size, LOCKS, seed)
            done = beside(bench, "one program" if seed == 0 else f"one program, seed {seed}", model, peers)
            for name in SPACER:
                label = f"program of {size:,} statements: times faster than {name}"
                bench.faster(label if seed == 0 else f"{label}, seed {seed}", done[ENGINE], done[name])
            peers = still(peers, done)


def faults(bench: Bench) -> None:
    """Right models are one thing; here one release is left out, early, in the middle, at the end."""
    for place in PLACES:
        peers: tuple[str, ...] = (*SPACER, *UNROLLED)
        for size in (50,) if bench.quick else (50, 100, 300, 1_000):
            model = driver(size, 2 if size == 50 else LOCKS, 1, fault=place, shape=Shape(routine=size))
            done = beside(bench, f"one routine, a fault: {place}", model, peers, SECONDS_FAULT)
            for name in peers:
                label = f"one routine of {size:,} statements, a fault: {place}: times faster than {name}"
                bench.faster(label, done[ENGINE], done[name])
            peers = still(peers, done)
