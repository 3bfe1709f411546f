"""Many small models, as a CI tree has them: kept verdicts, workers, an edit in a large file."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from benchmarks.measure import Answer, Bench, Process
from benchmarks.own import PROCESS, VERDICTS, verify
from benchmarks.workloads.drivers import driver
from benchmarks.workloads.real import EXAMPLES


def run(bench: Bench) -> None:
    warm(bench)
    many(bench, 20 if bench.quick else 500, 100)
    if not bench.quick:
        statements = min(bench.largest, 300_000)
        many(bench, 100, statements // 100)
    edited(bench)


def tree(path: Path, *flags: str) -> Answer:
    """A whole `modelcheck verify` of a folder or file; its closing line is the note."""
    done: Process = verify(path, "-q", *flags)
    last = done.output.strip().rpartition("\n")[2]
    wrong = "" if done.status in VERDICTS else f"exit {done.status}: {last}"
    return Answer(VERDICTS.get(done.status, "unknown"), done.seconds, done.megabytes, last, wrong)


def kept(folder: Path) -> tuple[str, ...]:
    """With verdicts kept in a folder."""
    return ("--cache", "on", "--cache-dir", str(folder))


def warm(bench: Bench) -> None:
    """All of `examples/`, of which some are there for their faults."""
    folder = EXAMPLES / "concurrency" if bench.quick else EXAMPLES
    tools = {PROCESS: partial(tree, folder, *kept(bench.folder / "warm"))}
    first = bench.compare(f"{folder.name}/, nothing kept", 1, "unsafe", tools)[PROCESS]
    then = bench.compare(f"{folder.name}/, all kept", 1, "unsafe", tools, 3)[PROCESS]
    same = first.answer.note == then.answer.note
    bench.figure(f"warm run of {folder.name}/, process", then.seconds if same else None, "s", then.answer.note)


def many(bench: Bench, models: int, statements: int) -> None:
    """One worker and two, in turn."""
    folder = bench.folder / f"tree{models}x{statements}"
    folder.mkdir()
    for number in range(models):
        (folder / f"m{number:03}.drvm").write_text(driver(statements, 2, seed=number).text)
    name = f"{models} models of {statements:,} statements"
    tools = {f"modelcheck, -j {jobs}": partial(tree, folder, "-j", str(jobs)) for jobs in (1, 2)}
    one, two = bench.compare(name, models, "safe", tools, 1 if bench.quick or statements > 100 else 3).values()
    bench.figure(f"{name}, -j 2, process", two.seconds, "s", two.answer.note)
    right = one.state == two.state == "right"
    bench.figure(f"{name}: two workers, times faster", one.seconds / two.seconds if right else None, "x")


def edited(bench: Bench) -> None:
    """A large driver cold, and after an edit in the body of one routine."""
    size = 1_000 if bench.quick else 10_000
    path = bench.file(driver(size, 8, seed=1).text, "large")
    tools = {PROCESS: partial(tree, path, *kept(bench.folder / "edited"))}
    cold = bench.compare(f"a driver of {size:,} statements, cold", size, "safe", tools)[PROCESS]
    path.write_text(re.sub(r"(routine \w+\([^{]*\{\n)", r"\1    if (*) { }\n", path.read_text(), count=1))
    again = bench.compare(f"a driver of {size:,} statements, edited", size, "safe", tools)[PROCESS]
    bench.figure(f"one routine of {size:,} statements edited, of cold", 100 * again.seconds / cold.seconds, "%")
