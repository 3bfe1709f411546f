"""The models of real drivers: whole processes, and the engine beside the peers.

What the models say of themselves is checked first. Peers are asked two questions: of the obligations that we prove, can
one be broken? Of those that we refute, can one? So a peer's answer speaks about both kinds of verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.measure import SECONDS_EXAMPLE, Answer, Bench
from benchmarks.own import ENGINE, PROCESS, certified, engine, whole
from benchmarks.peers import spacer
from benchmarks.peers.question import SPACER, UNROLLED, Question
from benchmarks.workloads.real import Real, drivers
from modelcheck.engines.analyse import Broken, Held
from modelcheck.export.refusal import NotExportable
from modelcheck.lower import lower
from modelcheck.pipeline import load

FEW = ("cancel_startio", "sdv_fail_storport")


def run(bench: Bench) -> None:
    slowest, trouble = 0.0, 0
    for real in drivers():
        if bench.quick and real.path.stem not in FEW:
            continue
        tools = {PROCESS: partial(whole, real.path, real.complaint)}
        done = bench.compare(f"examples, {real.path.stem}", real.lines, real.expected, tools, 1 if bench.quick else 3)
        slowest = max(slowest, done[PROCESS].seconds)
        trouble += done[PROCESS].state == "WRONG"
        beside(bench, real)
    bench.figure("examples: slowest, process", slowest, "s")
    bench.figure("examples: models with a wrong verdict", trouble, "")


def beside(bench: Bench, real: Real) -> None:
    lowered = lower(load(real.path)[0])
    done = certified(lowered)
    decided = done.analysis.decisions.items()
    for kind, expected, numbers in (
        ("what is proved", "safe", [n for n, decision in decided if isinstance(decision, Held)]),
        ("what is violated", "unsafe", [n for n, decision in decided if isinstance(decision, Broken)]),
    ):
        name = f"examples, {real.path.stem}, {kind}"
        try:
            question = Question(lowered, done.analysis.lives, sorted(numbers))
        except NotExportable as error:
            bench.skip(name, str(error))
            continue
        if question.numbers:
            peers = (spacer.BLOCKS, *UNROLLED) if bench.quick else (*SPACER, *UNROLLED)
            tools: dict[str, Callable[[], Answer]] = {ENGINE: partial(engine, lowered, question.numbers)}
            tools |= question.tools(dict.fromkeys(peers, min(bench.limit, SECONDS_EXAMPLE)), bench.folder)
            bench.compare(name, real.lines, expected, tools)
