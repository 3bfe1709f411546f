"""What was measured, as lines while it goes on, as JSON with every run, as Markdown tables; what it was measured on."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.measure import SECONDS_EXAMPLE, SECONDS_FAULT, TARGETS, Answer, Bench, Figure, Run, Skipped
from benchmarks.peers import spin
from benchmarks.plots import exponent, megabytes, seconds, series
from modelcheck import __version__

BEGIN, END = "<!-- measured -->", "<!-- end of what was measured -->"
"""Between these the tables stand on a page."""


def line(told: Run | Figure | Skipped) -> str:
    match told:
        case Run():
            state = told.answer.verdict if told.state == "right" else told.state.upper()
            memory = f"{told.answer.megabytes:.0f} MB" if told.answer.megabytes else ""
            note = told.answer.wrong or told.answer.note
            name = f"{told.workload}, {told.size:,}"
            return f"  {name:55} {told.tool:30} {told.seconds:9.3f} s {memory:>8} {state:8} {note}".rstrip()
        case Skipped(name, why):
            return f"  {name}: skipped: {why}"
        case Figure():
            number = "-" if told.value is None else f"{told.value:.3f}"
            return f"{told.name:75} {number:>10} {told.unit:12} {told.target:9} {met(told):6} {told.note}".rstrip()


def met(figure: Figure) -> str:
    return "" if not figure.target else "met" if figure.met else "MISSED"


def short(bench: Bench) -> list[str]:
    """What falls short of a target."""
    return [
        f"falls short: {figure.name}: {'nothing' if figure.value is None else f'{figure.value:.3g}'} {figure.unit},"
        f" to be {figure.target}"
        for figure in bench.figures
        if not figure.met
    ]


def unmeasured(bench: Bench) -> list[str]:
    """Targets for which nothing was measured."""
    return [f"not measured: {name}" for name in TARGETS if all(figure.name != name for figure in bench.figures)]


def disagreements(bench: Bench) -> list[str]:
    """Who says something else than all others and the model itself: an error in that tool, in an export, or in ours."""
    return [
        f"WRONG: {run.workload}, {run.size:,}: {run.tool}: {run.answer.verdict}, not {run.expected}"
        + (f": {run.answer.wrong}" if run.answer.wrong else "")
        for run in bench.medians
        if run.state == "WRONG"
    ]


def whole(bench: Bench) -> dict[str, Any]:
    """Everything, for JSON."""
    return {
        "machine": machine(),
        "quick": bench.quick,
        "parts": bench.parts,
        "seconds a peer has": bench.limit,
        "figures": [asdict(figure) | {"target": figure.target, "met": figure.met} for figure in bench.figures],
        "medians": [_record(run) for run in bench.medians],
        "runs": [_record(run) for run in bench.runs],
        "skipped": [asdict(skipped) for skipped in bench.skipped],
    }


def _record(run: Run) -> dict[str, Any]:
    own = {"workload": run.workload, "size": run.size, "tool": run.tool, "expected": run.expected, "state": run.state}
    return own | asdict(run.answer)


def merged(several: list[dict[str, Any]]) -> dict[str, Any]:
    """What `whole` made of different parts, as one; of one machine. What was measured again counts as it was last."""
    names = [name for name, value in several[0].items() if isinstance(value, list)]
    lists = {name: _latest([found[name] for found in several]) for name in names}
    return several[0] | lists


def _latest(several: list[list[Any]]) -> list[Any]:
    """The entries of all lists: of those that are about the same, those of the last list that has any."""
    groups: dict[object, list[Any]] = {}
    for entries in several:
        found: dict[object, list[Any]] = {}
        for entry in entries:
            key = (
                tuple(entry.get(k) for k in ("name", "workload", "size", "tool")) if isinstance(entry, dict) else entry
            )
            found.setdefault(key, []).append(entry)
        groups.update(found)
    return [entry for group in groups.values() for entry in group]


def markdown(found: dict[str, Any]) -> str:
    """The figures, the runs beside each other, the exponent of each series, from what `whole` made."""
    medians = [_read(record) for record in found["medians"]]
    parts = [
        ", ".join(f"{name}: {value}" for name, value in found["machine"].items()),
        f"Parts: {', '.join(found['parts'])}{'; in their quick form: smaller sizes' if found['quick'] else ''}.",
        _table(("figure", "measured", "target", "", ""), (_figure(figure) for figure in found["figures"])),
        f"Medians, as above. A peer gives up after {found['seconds a peer has']:g} s (beside a fault after at most"
        f" {SECONDS_FAULT}, beside an example {SECONDS_EXAMPLE}), or earlier where memory ends; times in parentheses"
        " are those of whoever gave up.",
        _table(("workload", "size", "tool", "verdict", "s", "MB", ""), map(_run, medians)),
        _table(("series", "sizes", "exponent of time", "of memory"), _exponents(medians)),
    ]
    if found["skipped"]:
        parts.append(_table(("skipped", "why"), ((s["name"], s["why"]) for s in found["skipped"])))
    return "\n\n".join(parts) + "\n"


def _read(record: dict[str, Any]) -> Run:
    answer = Answer(*(record[name] for name in ("verdict", "seconds", "megabytes", "note", "wrong")))
    return Run(record["workload"], record["size"], record["tool"], record["expected"], answer)


def fill(page: str, tables: str) -> str:
    """A page with other tables where it says that they stand.

    Raises:
        ValueError: it does not say so.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no {BEGIN} with {END} after it")
    return f"{before}{begin}\n\n{tables}\n{end}{after}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in row)} |" for row in lines)


def _figure(figure: dict[str, Any]) -> tuple[str, ...]:
    value = "none" if figure["value"] is None else f"{figure['value']:.3g} {figure['unit']}".strip()
    state = "" if not figure["target"] else "met" if figure["met"] else "**missed**"
    return figure["name"], value, figure["target"], state, figure["note"]


def _run(run: Run) -> tuple[str, ...]:
    memory = f"{run.answer.megabytes:.0f}" if run.answer.megabytes else ""
    took = f"{run.seconds:.3g}" if run.state == "right" else f"({run.seconds:.3g})"
    verdict = run.answer.verdict if run.state == "right" else f"**{run.state}**"
    return run.workload, f"{run.size:,}", run.tool, verdict, took, memory, run.answer.wrong or run.answer.note


def _exponents(runs: list[Run]) -> Iterable[tuple[str, ...]]:
    memory = series(runs, megabytes)
    for name, points in series(runs, seconds).items():
        sizes = f"{points[0][0]:,.0f} to {points[-1][0]:,.0f}"
        yield name, sizes, f"{exponent(points):.2f}", f"{exponent(memory[name]):.2f}" if name in memory else ""


def machine() -> dict[str, object]:
    """What it was measured on and with."""
    return {
        "modelcheck": __version__,
        "python": platform.python_version(),
        "z3-solver": _package("z3-solver"),
        "cvc5": _package("cvc5"),
        "spin": spin.version(),
        "machine": platform.machine(),
        "processor": _said(Path("/proc/cpuinfo"), r"model name\s*: (.*)"),
        "processors": os.cpu_count(),
        "memory": _said(Path("/proc/meminfo"), r"MemTotal:\s*(.*)"),
        "system": platform.system(),
    }


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _said(file: Path, pattern: str) -> str:
    found = re.search(pattern, file.read_text()) if file.exists() else None
    return found[1] if found else "unknown"
