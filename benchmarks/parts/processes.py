"""How long a user waits at least: commands that need no solver, and must not import one, and small models."""

from __future__ import annotations

from functools import partial

from benchmarks.measure import Bench, python
from benchmarks.own import PROCESS, middle, whole
from benchmarks.workloads.drivers import driver

NO_SOLVER = (
    "import sys; from modelcheck.cli import main\ntry: main(sys.argv[1:])\nfinally: assert 'z3' not in sys.modules"
)


def run(bench: Bench) -> None:
    wrong = bench.file("driver wrong;\nroutine R() { if }\n", "wrong")
    for name, arguments, status in (("--help", ("--help",), 0), ("a syntax error", ("verify", str(wrong)), 2)):
        assert "AssertionError" not in python("-c", NO_SOLVER, *arguments).output, "z3 was imported"
        assert python("-m", "modelcheck", *arguments).status == status
        times = 3 if bench.quick else 5
        seconds = middle(lambda given=arguments: python("-m", "modelcheck", *given).seconds, times)  # type: ignore[misc]
        bench.figure(f"{name}, process", seconds, "s")
    for statements, locks in ((20, 1), (500, 8)):
        path = bench.file(driver(statements, locks).text, "small")
        times = 2 if bench.quick else 5
        done = bench.compare("small drivers", statements, "safe", {PROCESS: partial(whole, path)}, times)[PROCESS]
        bench.figure(f"verify {statements} statements, process", done.seconds, "s")
