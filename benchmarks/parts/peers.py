"""The engine beside Spacer, bounded model checking and k-induction: one routine, and whole programs as one question.

Our time is that of all obligations from graphs to certified verdicts; a peer's is that of the obligations that one
context alone can break, without reading its files. A peer that unrolls is not asked about what is larger than what it
gave up on.
"""

from __future__ import annotations

import math
import statistics
from functools import partial

from benchmarks.measure import SECONDS_FAULT, Bench
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


Peers = tuple[str, ...]


def beside(
    bench: Bench, subject: str, suffix: str, workload: str, model: Driver, peers: Peers, most: float = math.inf
) -> tuple[dict[str, float | None], Peers]:
    """The engine and peers in turn on a driver: how many times faster we are than each, and the peers to ask about
    something larger. A peer has `most` seconds at most, unless a target about the subject asks for more."""
    lowered = lower(load(bench.file(model.text, "beside"))[0])
    first = certified(lowered)  # is not counted
    question = Question(lowered, first.analysis.lives)
    figures = {name: f"{subject}: times faster than {name}" for name in peers}
    seconds = {name: bench.patience(figure, first.seconds, most) for name, figure in figures.items()}
    tools = {ENGINE: partial(engine, lowered, question.numbers)} | question.tools(seconds, bench.folder)
    expected = "unsafe" if model.faulty else "safe"
    done = bench.compare(workload, model.statements, expected, tools, 1 if bench.quick else 3)
    ratios = {name: bench.faster(figure + suffix, done[ENGINE], done[name]) for name, figure in figures.items()}
    return ratios, tuple(name for name in peers if name not in UNROLLED or done[name].state == "right")


def routines(bench: Bench) -> None:
    peers: Peers = (*SPACER, *UNROLLED)
    for size in (20, 100) if bench.quick else (20, 50, 100, 300, 1_000, 3_000):
        subject = f"one routine of {size:,} statements"
        found: list[dict[str, float | None]] = []
        for seed in range(5 if size == 1_000 else 1):
            model = driver(size, LOCKS if size > 50 else 2, seed, shape=Shape(routine=size))
            suffix = f", seed {seed}" if size == 1_000 else ""
            ratios, peers = beside(bench, subject, suffix, f"one routine{suffix}", model, peers)
            found.append(ratios)
        if len(found) > 1:
            for name in SPACER:
                known = [value for value in (ratios[name] for ratios in found) if value is not None]
                label = f"{subject}: times faster than {name}, median"
                bench.figure(label, statistics.median(known) if known else None, "x", f"of {len(known)} routines")


def programs(bench: Bench) -> None:
    """Routines of 100 statements: one Horn system for all of them."""
    peers: Peers = (*SPACER, *UNROLLED)
    for size in (300,) if bench.quick else (300, 1_000, 3_000):
        for seed in range(3 if size == 1_000 else 1):
            suffix = f", seed {seed}" if seed else ""
            subject = f"program of {size:,} statements"
            _, peers = beside(bench, subject, suffix, f"one program{suffix}", driver(size, LOCKS, seed), peers)


def faults(bench: Bench) -> None:
    """Right models are one thing; here one release is left out, early, in the middle, at the end."""
    for place in PLACES:
        peers: Peers = (*SPACER, *UNROLLED)
        for size in (50,) if bench.quick else (50, 100, 300, 1_000):
            model = driver(size, 2 if size == 50 else LOCKS, 1, fault=place, shape=Shape(routine=size))
            subject = f"one routine of {size:,} statements, a fault: {place}"
            _, peers = beside(bench, subject, "", f"one routine, a fault: {place}", model, peers, SECONDS_FAULT)
