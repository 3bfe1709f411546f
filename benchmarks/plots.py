"""Time and memory against size, on logarithmic axes, with the fitted exponent of each series."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.measure import Run


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line through the points on logarithmic axes, least squares; 0 for fewer than two sizes."""
    xs = [math.log(size) for size, _ in points]
    ys = [math.log(value) for _, value in points]
    if len(set(xs)) < 2:
        return 0.0
    x, y = statistics.fmean(xs), statistics.fmean(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


Values = Callable[[Run], float]


def seconds(run: Run) -> float:
    return run.seconds


def megabytes(run: Run) -> float:
    return run.answer.megabytes


def series(runs: Sequence[Run], value: Values) -> dict[str, list[tuple[float, float]]]:
    """Sizes and values of each series with more than one size; of right answers only."""
    found: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        if run.state == "right" and run.size > 0 and value(run) > 0:
            found.setdefault(run.series, []).append((run.size, value(run)))
    return {name: points for name, points in sorted(found.items()) if len({size for size, _ in points}) > 1}


PANELS = (
    ("beside SPIN, against contexts", ("beside SPIN",)),
    ("one routine and one program, against statements", ("one routine:", "one routine, seed", "one program")),
    ("one routine with a fault, against statements", ("one routine, a fault",)),
    ("whole drivers, against statements", ("drivers", "small drivers")),
    ("drivers of 10,000 statements, against locks, depth, branches, flags", ("10,000 statements",)),
    ("rings, philosophers, interrupts, mixed, against contexts", ("ring,", "ordered", "gated", "interrupts", "mixed")),
    ("the classic exercises, against contexts", ("",)),
)
"""The parts of a picture: what each is called, and what the names of its series say; the first that fits has one."""

Series = dict[str, list[tuple[float, float]]]


def grouped(found: Series) -> dict[str, Series]:
    """The series of each part that has some."""
    panels: dict[str, Series] = {title: {} for title, _ in PANELS}
    for name, points in found.items():
        title = next(title for title, words in PANELS if any(word in name for word in words))
        panels[title][name] = points
    return {title: lines for title, lines in panels.items() if lines}


def draw(runs: Sequence[Run], folder: Path) -> list[Path]:
    """`time.svg` and `memory.svg`; nothing where matplotlib is missing (the extra `bench`)."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("svg")
    from matplotlib import pyplot

    files = []
    for name, unit, value in (("time", "s", seconds), ("memory", "MB", megabytes)):
        found = series(runs, value)
        if not found:
            continue
        panels = grouped(found)
        rows = math.ceil(len(panels) / 2)
        figure, grid = pyplot.subplots(rows, 2, figsize=(15, 4.6 * rows), squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, (title, lines) in zip(grid.flat, panels.items(), strict=False):
            for number, (label, points) in enumerate(lines.items()):
                style = {"marker": "osv^Dx*"[number // 10 % 7], "markersize": 3, "linewidth": 0.8}
                axes.loglog(*zip(*points, strict=True), label=f"{label}: {exponent(points):.2f}", **style)
            axes.set_title(title, fontsize=9)
            axes.set_ylabel(f"{name}, {unit}")
            axes.grid(True, which="both", linewidth=0.3)
            axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.tight_layout()
        files.append(folder / f"{name}.svg")
        figure.savefig(files[-1], bbox_inches="tight")
        pyplot.close(figure)
    return files
