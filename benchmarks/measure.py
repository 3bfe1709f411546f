"""Runs and what comes of them: processes with limits, tools in turn on the same question, medians.

A verdict is looked at before its time: a tool that answers wrongly or gives up is kept as that, and takes no part in a
comparison of times, except that one which gives up was slower than until then.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGETS = tomllib.loads((Path(__file__).parent / "targets.toml").read_text())
SECONDS, SECONDS_FAULT, SECONDS_EXAMPLE = 40, 20, 5
"""After which a peer gives up; one that looks for a fault, one beside an example: there are many of them."""
AMPLE = 1.25
"""How much longer a peer is given than it takes to show that a target is reached: times differ."""
LONG = 20
"""Seconds; what takes longer is run once."""
MEGABYTES = 8192
"""Address space of a child."""
LAUNCH = """
import json, os, resource, signal, subprocess, sys, threading, time
output, seconds, megabytes, *command = sys.argv[1:]
late = []

def bound():
    resource.setrlimit(resource.RLIMIT_AS, (int(megabytes) << 20, int(megabytes) << 20))

def kill():
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass

def end():
    late.append(True)
    kill()

started = time.perf_counter()
child = subprocess.Popen(
    command, stdin=subprocess.DEVNULL, stdout=open(output, "wb"), stderr=subprocess.STDOUT,
    start_new_session=True, preexec_fn=bound,
)
timer = threading.Timer(float(seconds), end)
timer.daemon = True
timer.start()
try:
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
finally:
    timer.cancel()
    kill()
print(json.dumps([seconds, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status), bool(late)]))
"""
"""A process of its own between us and what is measured: one starts with the peak memory of that which it is forked
from, so that has to be small. What is measured has its own process group, and whatever is left of that is killed."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that has ended: wall-clock seconds, peak memory in MB, exit status, whether it was killed at its limit,
    what it printed."""

    seconds: float
    megabytes: float
    status: int
    late: bool
    output: str


def run(command: list[str], seconds: float = 3600, megabytes: int = MEGABYTES, folder: Path | None = None) -> Process:
    """Runs a command with limits, with compiled Python modules at hand as after an installation."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "modelcheck-benchmarks")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["MODELCHECK_CACHE"] = "off"  # who measures kept verdicts says so with a flag
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with tempfile.NamedTemporaryFile("r", errors="replace") as output:
        launch = [sys.executable, "-I", "-S", "-c", LAUNCH, output.name, str(seconds), str(megabytes), *command]
        told = subprocess.run(launch, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
        took, peak, status, late = json.loads(told.stdout)
        return Process(took, peak, status, late, output.read())


def python(*arguments: str, seconds: float = 3600) -> Process:
    return run([sys.executable, *arguments], seconds)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool says of a model: safe, unsafe or unknown. `wrong`: what is wrong with what it says in detail."""

    verdict: str
    seconds: float
    megabytes: float
    note: str = ""
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """A tool on one model of a workload, once, or the median of such runs."""

    workload: str
    size: int
    tool: str
    expected: str
    answer: Answer

    @property
    def state(self) -> str:
        """right, gave up or WRONG."""
        if self.answer.wrong or self.answer.verdict not in (self.expected, "unknown"):
            return "WRONG"
        return "right" if self.answer.verdict == self.expected else "gave up"

    @property
    def seconds(self) -> float:
        return self.answer.seconds

    @property
    def series(self) -> str:
        return f"{self.workload}: {self.tool}"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number to be looked at, None where there is none to be had."""

    name: str
    value: float | None
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
        if self.value is None:
            return not wanted
        return bool(wanted.get("least", self.value) <= self.value <= wanted.get("most", self.value))


@dataclass(frozen=True, slots=True)
class Skipped:
    """What could not be measured, and why."""

    name: str
    why: str


class Bench:
    """What one call of the command measures. `folder` for models; `quick`: smaller sizes, fewer runs; `limit`: seconds
    after which a peer gives up; `largest`: statements that no driver may exceed. `told` is given what is measured."""

    def __init__(
        self, folder: Path, quick: bool, limit: float, largest: int, told: Callable[[Run | Figure | Skipped], None]
    ) -> None:
        self.folder = folder
        self.quick = quick
        self.limit = limit
        self.largest = largest
        self.told = told
        self.parts: list[str] = []
        self.runs: list[Run] = []
        self.medians: list[Run] = []
        self.figures: list[Figure] = []
        self.skipped: list[Skipped] = []

    def file(self, text: str, name: str) -> Path:
        path = self.folder / f"{name}.drvm"
        path.write_text(text)
        return path

    def figure(self, name: str, value: float | None, unit: str, note: str = "") -> None:
        self.figures.append(Figure(name, value, unit, note))
        self.told(self.figures[-1])

    def skip(self, name: str, why: str) -> None:
        self.skipped.append(Skipped(name, why))
        self.told(self.skipped[-1])

    def compare(
        self, workload: str, size: int, expected: str, tools: Mapping[str, Callable[[], Answer]], times: int = 1
    ) -> dict[str, Run]:
        """The tools in turn on one model, `times` times; one that does not answer rightly, or only after long, is not
        asked again."""
        found: dict[str, list[Run]] = {tool: [] for tool in tools}
        for _ in range(times):
            for tool, ask in tools.items():
                if all(run.state == "right" and run.seconds < LONG for run in found[tool]):
                    found[tool].append(Run(workload, size, tool, expected, ask()))
        medians = {tool: median(runs) for tool, runs in found.items()}
        for tool in tools:
            self.runs += found[tool]
            self.medians.append(medians[tool])
            self.told(medians[tool])
        return medians

    def patience(self, name: str, own: float, most: float = math.inf) -> float:
        """Seconds after which a peer gives up: the limit and no more than `most`, but long enough to show that the
        targets of figures whose names begin so are reached, by one that takes `own` seconds."""
        least = max((wanted.get("least", 0) for full, wanted in TARGETS.items() if full.startswith(name)), default=0)
        return max(min(self.limit, most), AMPLE * own * least)

    def faster(self, name: str, own: Run, peer: Run) -> float | None:
        """How many times faster we are than a peer, as a figure; a lower bound if the peer gave up, none if a verdict
        is wrong or it was us who gave up."""
        note = f"{peer.tool}: {peer.state}" + (" (a lower bound)" if peer.state == "gave up" else "")
        value = peer.seconds / own.seconds if own.state == "right" and peer.state != "WRONG" else None
        if own.state != "right":
            note = f"{own.tool}: {own.state}"
        self.figure(name, value, "x", note)
        return value


def median(runs: list[Run]) -> Run:
    """The last one, which alone can be no right one, with the median of the times and the largest memory."""
    last = runs[-1]
    if last.state != "right":
        return last
    seconds = statistics.median(run.seconds for run in runs)
    return replace(last, answer=replace(last.answer, seconds=seconds, megabytes=max(r.answer.megabytes for r in runs)))
