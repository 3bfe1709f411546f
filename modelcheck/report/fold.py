"""Long runs made short: loops once with their count, stretches in which nothing changes as one line.

What breaks the obligation, waits, or changes the IRQL or a lock is never left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelcheck.record import dataclass
from modelcheck.report.run import Moment, Run

LONGEST_LOOP = 40
"""Steps of a loop's body that are still recognised."""
ROOMY = 36
"""Rows up to which nothing is collapsed."""
SHORTEST_STRETCH = 3


@dataclass(frozen=True, slots=True)
class Row:
    """What a row of a picture or a table stands for: one moment (`note` empty), or several that are only told about.

    `moment` is the last one it stands for: the state after the row is that after it.
    """

    moment: Moment
    first: int
    note: str = ""

    @property
    def numbers(self) -> str:
        last = self.moment.number
        return str(last) if self.first == last else f"{self.first}-{last}"


def fold(run: Run) -> tuple[Row, ...]:
    """The rows of a run: all of a short one without loops."""
    rows = tuple(_loops(run.moments, run.bad))
    return tuple(_stretches(rows, run.bad)) if len(rows) > ROOMY else rows


def _loops(moments: Sequence[Moment], bad: frozenset[int]) -> Iterator[Row]:
    keys = [_key(moment) for moment in moments]
    index = 0
    while index < len(moments):
        period, times = _repetition(keys, index, moments, bad)
        for moment in moments[index : index + period]:
            yield Row(moment, moment.number)
        if times > 1:
            last = moments[index + period * times - 1]
            what = "this step" if period == 1 else f"these {period} steps"
            yield Row(last, moments[index + period].number, f"{what} again, {times} times in all")
        index += period * times


def _key(moment: Moment) -> tuple[object, ...]:
    """Equal for steps that look the same."""
    step = moment.step
    return (moment.lane, step.span, step.depth, step.irql, step.held, step.taken, moment.waits, moment.remarks)


def _repetition(keys: Sequence[object], index: int, moments: Sequence[Moment], bad: frozenset[int]) -> tuple[int, int]:
    """(period, times) of the loop that begins here and covers most, the shortest such; (1, 1) for none."""
    best, covered = (1, 1), 3
    for period in range(1, min(LONGEST_LOOP, (len(keys) - index) // 2) + 1):
        if keys[index] != keys[index + period]:
            continue
        times = 1
        body = keys[index : index + period]
        while keys[index + times * period : index + (times + 1) * period] == body and not any(
            moment.number in bad for moment in moments[index + times * period : index + (times + 1) * period]
        ):
            times += 1
        if times > 1 and times * period > covered:
            best, covered = (period, times), times * period
    return best


def _stretches(rows: Sequence[Row], bad: frozenset[int]) -> Iterator[Row]:
    """Rows with each stretch of uneventful steps of one lane as one."""
    quiet: list[Row] = []
    before: dict[int, Moment] = {}
    for row in rows:
        dull = _is_dull(row, before.get(row.moment.lane), bad)
        if quiet and (not dull or quiet[-1].moment.lane != row.moment.lane):
            yield from _collapsed(quiet)
            quiet = []
        before[row.moment.lane] = row.moment
        if dull:
            quiet.append(row)
        else:
            yield row
    yield from _collapsed(quiet)


def _is_dull(row: Row, before: Moment | None, bad: frozenset[int]) -> bool:
    moment = row.moment
    if row.note or before is None or moment.number in bad or moment.remarks or moment.waits or moment.ends:
        return False
    same = (moment.step.irql, moment.step.held) == (before.step.irql, before.step.held)
    return same and not before.waits and not moment.stands


def _collapsed(quiet: Sequence[Row]) -> Iterator[Row]:
    if len(quiet) < SHORTEST_STRETCH:
        yield from quiet
        return
    lines = [row.moment.step.span.line for row in quiet]
    where = f"lines {min(lines)} to {max(lines)}" if min(lines) < max(lines) else f"line {lines[0]}"
    yield Row(quiet[-1].moment, quiet[0].first, f"{len(quiet)} steps, {where}: no change")
