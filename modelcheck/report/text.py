"""A report for people: what is violated and how it comes about, what is unknown and why, what was proved, in counts.

Everything fits the given width (80 columns by default); nothing is cut off, long cells wrap. Colour is decoration only.
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from modelcheck.diagnostics import Diagnostic
from modelcheck.record import dataclass
from modelcheck.render import excerpt
from modelcheck.report.explain import title
from modelcheck.report.fold import fold
from modelcheck.report.outcome import Outcome, Tally, tally
from modelcheck.report.run import Blocked, Case, Moment, Run, alike_words, by_scenario, cases, places_alike
from modelcheck.report.words import (
    advice,
    broken,
    clean,
    held_words,
    level_name,
    place_words,
    ruled_words,
    stuck_words,
)
from modelcheck.verdict import (
    Hierarchy,
    Property,
    Report,
    Result,
    Schedule,
    Step,
    Undecided,
    Verdict,
    Violated,
)

MIN_WIDTH = 60
_COLOURS = {"violated": "31", "unknown": "33", "proved": "32", "warning": "33", "strong": "1", "faint": "2"}


@dataclass(frozen=True, slots=True)
class Style:
    """How text is laid out: `width` in columns, colour or not."""

    width: int = 80
    colour: bool = False

    def paint(self, kind: str, text: str) -> str:
        return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if self.colour and text else text


def file_report(report: Report, style: Style, render: Callable[[Diagnostic], str], quiet: bool = False) -> str:
    """All that is said about one file, ending with `toaster: 31 proved, 1 violated, 0 unknown`.

    With `quiet` only violations, unknowns and the last line. `render` prints a diagnostic.
    """
    blocks = list(_findings(report, style))
    if not quiet:
        blocks += [render(d).rstrip("\n") for d in report.warnings]
        if report.hierarchy and report.hierarchy.ranks:
            blocks.append(hierarchy(report.hierarchy, style))
        if report.results:
            blocks.append(_summary(report.results, style))
    if not report.results:
        blocks.append(_wrapped(f"{clean(report.path)}: nothing to check: the model has no obligations", style))
    return "\n\n".join([*blocks, _last_line(clean(report.driver), tally(report.results), style)]) + "\n"


def run_total(outcomes: Sequence[Outcome], style: Style) -> str:
    """The closing line of a run over several files, empty for one file."""
    if len(outcomes) < 2:
        return ""
    total = sum((tally(o.report.results) for o in outcomes if o.report), Tally())
    line = _last_line(f"{len(outcomes)} files", total, style)
    trouble = [
        (sum(bool(o.rejected) and not o.only_imported for o in outcomes), "rejected"),
        (sum(bool(o.crashed) for o in outcomes), "failed"),
    ]
    return line + "".join(f", {n} {what}" for n, what in trouble if n) + "\n"


# ---- violations ----


def _findings(report: Report, style: Style) -> Iterator[str]:
    """What is violated, then what is unknown; of each scenario under its name, the open world first."""
    found = tuple(cases(report))
    for scenario in dict.fromkeys(r.obligation.scenario for r in by_scenario(report.results)):
        blocks = []
        for case in found:
            if case.results[0].obligation.scenario == scenario:
                blocks += [violation(result, result.verdict, case, style) for result in case.results]
                if case.alike:
                    blocks.append(_alike(case, style))
        for result in report.results:
            if result.obligation.scenario == scenario and isinstance(result.verdict, Undecided):
                blocks.append(undecided(result, result.verdict, report.unmodelled, style))
        if blocks and scenario:
            blocks[0] = f"{style.paint('strong', f'In scenario {clean(scenario)}:')}\n\n{blocks[0]}"
        yield from blocks


def _alike(case: Case, style: Style) -> str:
    """Where the same is violated for the same reason."""
    lines = [style.paint("violated", _wrapped(alike_words(case), style))]
    lines += [_wrapped(f"{routine}: {places}", style, "  ", "    ") for routine, places in places_alike(case)]
    return "\n".join(lines)


def violation(result: Result, verdict: Verdict, case: Case, style: Style) -> str:
    """One violated obligation: what, where, how it starts, each step, who waits for whom, where the locks were taken.

    Where the run breaks another obligation too, which has been shown before (the first of the case), only a reference.
    """
    lines = [*_heading(result, "violated", style), ""]
    if case.results[0] != result:
        other = case.results[0].obligation
        return "\n".join(
            [*lines, _wrapped(f"the run is that of {other.code} at {clean(str(other.span))}, above", style, "  ")]
        )
    run = case.run
    start = list(_start(run, style))
    if start:
        lines += [*start, ""]
    lines += _steps(run, isinstance(case.evidence, Schedule), style)
    if run.blocked:
        lines += ["", *_ring(run, style)]
    lines += [_wrapped(note, style, "  ") for note in _acquired_notes(run, result.obligation.subject)]
    if not (isinstance(verdict, Violated) and verdict.replayed):
        text = "internal error: this trace was not confirmed by the interpreter; please report it"
        lines.append(style.paint("violated", _wrapped(text, style, "  ")))
    return "\n".join(lines)


def _heading(result: Result, kind: str, style: Style) -> list[str]:
    obligation = result.obligation
    what = textwrap.wrap(f"{obligation.code} {kind}: {title(obligation.code)}", style.width, subsequent_indent="  ")
    where = f"{clean(str(obligation.span))}"
    if obligation.routine:
        where += f" in {clean(obligation.routine)}"
    if obligation.subject not in ("", obligation.routine):
        where += f": {clean(obligation.subject)}"
    lines = [style.paint("strong", style.paint(kind, line)) for line in what]
    lines.append(_wrapped(f"--> {where}", style, "  ", "      "))
    lines += excerpt(obligation.span, style.width, style.colour)
    if obligation.why:
        lines.append(_wrapped(f"must hold: {clean(obligation.why)}", style, "  ", "    "))
    return lines


def _start(run: Run, style: Style) -> Iterator[str]:
    """What was open at the start; of several contexts in a line each."""
    for lane in run.lanes:
        name = "" if lane.processor is None else f" of {lane.title} on processor {lane.processor}"
        if lane.start or name:
            said = "; ".join(lane.start)
            yield _wrapped(f"start{name}: {said}" if said else f"start{name}", style, "  ", "    ")


def _place(step: Step, root: Step) -> str:
    """The line; with the file's name where it is another than the root's."""
    if step.span.source is root.span.source:
        return str(step.span.line)
    return place_words(step.span)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table of steps; `source` may need several lines. `cpu` is "" where there is one context."""

    mark: str
    context: str
    cpu: str
    line: str
    source: tuple[str, ...]
    irql: str
    held: str


def _steps(run: Run, several: bool, style: Style) -> list[str]:
    """The steps as aligned columns, those marked that break the obligation."""
    if not run.moments:
        return []
    head = _Row("", "context" if several else "routine", "cpu" if several else "", "line", ("source",), "IRQL", "held")
    rows = [head, *_rows(run, several)]
    context = _widest((r.context for r in rows), style.width // 5)
    line = _widest((r.line for r in rows), style.width // 5)
    held = _widest((r.held for r in rows), style.width // 4)
    irql = _widest((r.irql for r in rows), 8)
    cpu = [3] if several else []
    fixed = [context, *cpu, line, irql, held]
    source = style.width - len(" > ") - sum(fixed) - len(fixed) * len(_GAP)
    lines: list[str] = []
    for row in rows:
        cells = (
            _cell([row.context], context),
            *([row.cpu.rjust(width)] for width in cpu),
            _cell([row.line.rjust(line)], line),
            _cell(row.source, source),
            [row.irql.ljust(irql)],
            _cell([row.held], held),
        )
        kind = "faint" if row is head else "violated" if row.mark else None
        lines += [style.paint(kind, text) if kind else text for text in _side_by_side(row.mark, cells)]
    return lines


_GAP = "  "


def _rows(run: Run, several: bool) -> Iterator[_Row]:
    before: Moment | None = None
    for row in fold(run):
        moment, step = row.moment, row.moment.step
        lane = run.lanes[moment.lane]
        told = [f"  - {remark}" for remark in (moment.halt, *moment.remarks) if remark]
        yield _Row(
            mark=">" if moment.number in run.bad else "",
            context=_context(run, moment, before, several),
            cpu="" if (before and before.lane == moment.lane) or lane.processor is None else str(lane.processor),
            line="" if row.note else _place(step, run.moments[0].step),
            source=(f"({row.note})",) if row.note else (moment.text, *told),
            irql=level_name(step.irql),
            held=", ".join(held_words(*entry) for entry in step.held),
        )
        before = moment


def _context(run: Run, moment: Moment, before: Moment | None, several: bool) -> str:
    """The context where it changes, and the routine where that is another: indented as deep as it is called."""
    step, name = moment.step, run.lanes[moment.lane].name
    if before and before.lane == moment.lane:
        if (before.step.routine, before.step.depth) == (step.routine, step.depth):
            return ""
        name = clean(step.routine) if step.depth or not several else name
        return "  " * min(step.depth, 4) + name
    if not several:
        return "  " * min(step.depth, 4) + clean(step.routine)
    return f"{name} in {clean(step.routine)}" if step.depth else name


def _ring(run: Run, style: Style) -> Iterator[str]:
    """Who can never go on and why, each with the calls it is in."""
    yield _wrapped(stuck_words(len(run.blocked)), style, "  ")
    for blocked in run.blocked:
        lane = run.lanes[blocked.wait.actor]
        where = "" if lane.processor is None else f" on processor {lane.processor}"
        yield style.paint("violated", _wrapped(f"{lane.title}{where} {blocked.words}", style, "    ", "      "))
        if len(blocked.calls) > 1:
            yield _wrapped(f"in {_calls(blocked)}", style, "      ", "        ")


def _calls(blocked: Blocked) -> str:
    return " > ".join(f"{clean(routine)} at {place_words(span)}" for routine, span in blocked.calls)


def _widest(cells: Iterable[str], limit: int) -> int:
    return min(max(map(len, cells)), limit)


def _cell(texts: Iterable[str], width: int) -> list[str]:
    """The lines of one cell, each `width` long: wrapped, and indented as the text began."""
    lines: list[str] = []
    for text in texts:
        indent = " " * (len(text) - len(text.lstrip()))
        lines += broken(text, width, indent)
    return [line.ljust(width) for line in lines]


def _side_by_side(mark: str, cells: tuple[list[str], ...]) -> Iterator[str]:
    """Cells of one row next to each other; the shorter ones are filled up."""
    blanks = [" " * len(cell[0]) for cell in cells]
    for number in range(max(map(len, cells))):
        texts = [cell[number] if number < len(cell) else blank for cell, blank in zip(cells, blanks, strict=True)]
        yield f" {mark if number == 0 else '':1} {_GAP.join(texts)}".rstrip()


def _acquired_notes(run: Run, subject: str) -> Iterator[str]:
    """Where each lock that matters was last acquired: those held where it fails or just before, and the subject."""
    acquired: dict[tuple[int, str], Step] = {}
    before: dict[int, dict[str, int]] = {}
    for moment in run.moments:
        now = {name: count for name, _, count in moment.step.held}
        for name, count in now.items():
            if count > before.get(moment.lane, {}).get(name, 0):
                acquired[moment.lane, name] = moment.step
        before[moment.lane] = now
    relevant = {subject}
    for number in run.bad:
        lane = [m for m in run.moments[:number] if m.lane == run.moments[number - 1].lane]
        relevant |= {name for moment in lane[-2:] for name, _, _ in moment.step.held}
    failing = {id(run.moments[number - 1].step) for number in run.bad}
    for (lane_number, name), step in sorted(acquired.items(), key=lambda entry: (entry[0][1], entry[0][0])):
        if name in relevant and id(step) not in failing:
            by = f" by {run.lanes[lane_number].name}" if len(run.lanes) > 1 else ""
            yield f"note: {clean(name)} was acquired{by} at {clean(step.span.source.name)}:{step.span.line}"


# ---- unknown, proved ----


def undecided(result: Result, verdict: Undecided, unmodelled: Sequence[str], style: Style) -> str:
    """One obligation that was not decided: why, what is known all the same, what would help."""
    lines = _heading(result, "unknown", style)
    lines.append(_wrapped(f"why: {clean(verdict.reason)}", style, "  ", "    "))
    if verdict.reached:
        lines.append(_wrapped(f"known: {clean(verdict.reached)}", style, "  ", "    "))
    lines.append(_wrapped(f"help: {advice(verdict, tuple(unmodelled))}", style, "  ", "    "))
    return "\n".join(lines)


def hierarchy(order: Hierarchy, style: Style) -> str:
    """The order of a driver's locks, and which cycles cannot close."""
    by_rank: defaultdict[int, list[str]] = defaultdict(list)
    for name, rank in order.ranks:
        by_rank[rank].append(clean(name) + (" (event)" if name in order.events else ""))
    lines = [style.paint("faint", _wrapped("lock hierarchy: who holds one waits only for those further down", style))]
    width = len(str(max(by_rank)))
    for rank, names in sorted(by_rank.items()):
        lines.append(_wrapped(f"{rank:>{width}}  {', '.join(sorted(names))}", style, "  ", " " * (width + 4)))
    lines += [_wrapped(f"but for: {ruled_words(ruled)}", style, "  ", "    ") for ruled in order.ruled]
    return "\n".join(lines)


_COLUMNS = {"proved": 8, "violated": 10, "unknown": 9}


def _summary(results: Sequence[Result], style: Style) -> str:
    """A line for each property that the model has obligations of; then the same for each scenario."""
    worlds: defaultdict[str, defaultdict[Property, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in by_scenario(results):
        worlds[result.obligation.scenario][result.obligation.code].append(result)
    name_width = style.width - sum(_COLUMNS.values())
    lines = []
    for scenario, rows in worlds.items():
        name = f"in scenario {clean(scenario)}" if scenario else "property"
        heads = textwrap.wrap(name, name_width) or [""]
        columns = "".join(kind.rjust(width) for kind, width in _COLUMNS.items())
        lines += [style.paint("faint", line) for line in (heads[0].ljust(name_width) + columns, *heads[1:])]
        for code in sorted(rows):
            lines += _summary_line(code, rows[code], name_width, style)
    return "\n".join(lines)


def _summary_line(code: Property, results: Sequence[Result], name_width: int, style: Style) -> list[str]:
    counted = tally(results)
    name = textwrap.wrap(f"{code} {title(code)}", name_width, subsequent_indent="    ")
    numbers = ""
    for kind, width in _COLUMNS.items():
        number = getattr(counted, kind)
        numbers += style.paint(kind, str(number).rjust(width)) if number else "-".rjust(width)
    return [name[0].ljust(name_width) + numbers, *name[1:]]


def _last_line(name: str, total: Tally, style: Style) -> str:
    kind = "violated" if total.violated else "unknown" if total.unknown or not total.proved else "proved"
    line = style.paint(kind, f"{name}: {total}")
    return line + (f" ({total.unreachable} unreachable)" if total.unreachable else "")


def _wrapped(text: str, style: Style, indent: str = "", deeper: str | None = None) -> str:
    return textwrap.fill(
        text,
        style.width,
        initial_indent=indent,
        subsequent_indent=deeper if deeper is not None else indent + "  ",
        break_on_hyphens=False,
    )


def obligations_list(lines: Iterable[tuple[str, str]], style: Style) -> str:
    """`modelcheck list`: each obligation's id and, below it, what must hold there."""
    return "".join(f"{clean(id_)}\n{_wrapped(clean(why), style, '    ', '    ')}\n" for id_, why in lines)
