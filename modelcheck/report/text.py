"""A report for people: what is violated and how it comes about, what is unknown and why, what was proved, in counts.

Everything fits the given width (80 columns by default); nothing is cut off, long cells wrap. Colour is decoration only.
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from modelcheck.diagnostics import Diagnostic
from modelcheck.report.explain import title
from modelcheck.report.outcome import Outcome, Tally, tally
from modelcheck.verdict import (
    APC_LEVEL,
    DISPATCH_LEVEL,
    HIGH_LEVEL,
    NO_LEVEL,
    PASSIVE_LEVEL,
    Choice,
    Property,
    Proved,
    Report,
    Result,
    Step,
    Trace,
    Undecided,
    Violated,
)

MIN_WIDTH = 60

_LEVELS = {
    PASSIVE_LEVEL: "PASSIVE",
    APC_LEVEL: "APC",
    DISPATCH_LEVEL: "DISPATCH",
    5: "DIRQL",
    HIGH_LEVEL: "HIGH",
    NO_LEVEL: "none",
}
_HOLD = {0: "free", 1: "held", 2: "held shared"}
_LIFE = {0: "not initialised", 1: "initialised", 2: "freed"}
_COLOURS = {"violated": "31", "unknown": "33", "proved": "32", "warning": "33", "strong": "1", "faint": "2"}


@dataclass(frozen=True, slots=True)
class Style:
    """How text is laid out: `width` in columns, colour or not."""

    width: int = 80
    colour: bool = False

    def paint(self, kind: str, text: str) -> str:
        return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if self.colour and text else text


def level_name(level: int) -> str:
    """An IRQL by name; device levels without a name as numbers."""
    return _LEVELS.get(level, str(level))


def clean(text: str) -> str:
    """One line without control characters: a model cannot move the cursor of whoever reads the report."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def file_report(report: Report, style: Style, render: Callable[[Diagnostic], str], quiet: bool = False) -> str:
    """All that is said about one file, ending with `toaster: 31 proved, 1 violated, 0 unknown`.

    With `quiet` only violations, unknowns and the last line. `render` prints a diagnostic.
    """
    blocks = [violation(r, r.verdict, style) for r in report.results if isinstance(r.verdict, Violated)]
    for result in report.results:
        if isinstance(result.verdict, Undecided):
            blocks.append(undecided(result, result.verdict, report.unmodelled, style))
    if not quiet:
        blocks += [render(d).rstrip("\n") for d in report.warnings]
        blocks += list(_unreachable(report, style))
        if report.unmodelled:
            names = ", ".join(clean(n) for n in report.unmodelled)
            blocks.append(_wrapped(f"warning: no model knows {names}: what is called there is unknown", style))
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


def violation(result: Result, verdict: Violated, style: Style) -> str:
    """One violated obligation: what, where, how it starts, each step, where the locks were taken."""
    obligation, trace = result.obligation, verdict.trace
    lines = [*_heading(result, "violated", style), ""]
    if trace.start:
        lines.append(_wrapped("start: " + "; ".join(_start(c) for c in trace.start), style, "  "))
        lines.append("")
    lines += _steps(trace, style)
    lines += [_wrapped(note, style, "  ") for note in _acquired_notes(trace, obligation.subject)]
    if not verdict.replayed:
        text = "internal error: this trace was not confirmed by the interpreter; please report it"
        lines.append(style.paint("violated", _wrapped(text, style, "  ")))
    return "\n".join(lines)


def _heading(result: Result, kind: str, style: Style) -> list[str]:
    obligation = result.obligation
    what = textwrap.wrap(f"{obligation.code} {kind}: {title(obligation.code)}", style.width, subsequent_indent="  ")
    where = f"{clean(str(obligation.span))}"
    if obligation.routine:
        where += f" in {clean(obligation.routine)}"
    if obligation.subject:
        where += f": {clean(obligation.subject)}"
    lines = [style.paint("strong", style.paint(kind, line)) for line in what]
    lines.append(_wrapped(f"--> {where}", style, "  ", "      "))
    if obligation.why:
        lines.append(_wrapped(f"must hold: {clean(obligation.why)}", style, "  ", "    "))
    return lines


def _start(choice: Choice) -> str:
    """What was open at the start, in words."""
    kind, _, name = clean(choice.name).partition(" ")
    match kind:
        case "irql":
            return f"IRQL is {level_name(choice.value)}"
        case "life":
            return f"{name} is {_LIFE.get(choice.value, str(choice.value))}"
        case "held":
            return f"{name} is {_HOLD.get(choice.value, str(choice.value))}"
        case "var" | "param":
            return f"{name} is {choice.value}"
        case _:
            return f"{clean(choice.name)} is {choice.value}"


def _choice(choice: Choice) -> str:
    """How something left open went, in words."""
    kind, _, name = clean(choice.name).partition(" ")
    match kind:
        case "*":
            return f"* is {choice.value}"
        case "try":
            return "the attempt succeeds" if choice.value else "the attempt fails"
        case "var":
            return f"{name} is {choice.value}"
        case "uninit":
            return f"{name} happens to be {choice.value}"
        case "result":
            return f"gives back {choice.value}"
        case "out":
            return f"{name} becomes {choice.value}"
        case "counter":
            return f"counter {name} becomes {choice.value}"
        case "count":
            return f"{name} is then held {choice.value} times"
        case _:
            return f"{clean(choice.name)} is {choice.value}"


def _held_lock(name: str, mode: str, count: int) -> str:
    text = clean(name) if mode in ("", "exclusive") else f"{clean(name)} ({clean(mode)})"
    return text if count == 1 else f"{text} x{count}"


def _source_text(step: Step) -> str:
    """The statement as written: its first line; of a condition the whole line, and how it went."""
    if step.taken is None:
        return clean(step.span.text.splitlines()[0]) if step.span.text else ""
    return f"{clean(step.span.source.line(step.span.line))}  ({'true' if step.taken else 'false'})"


def _place(step: Step, root: Step) -> str:
    """The line; with the file's name where it is another than the root's."""
    if step.span.source is root.span.source:
        return str(step.span.line)
    return f"{clean(step.span.source.name).rsplit('/', 1)[-1]}:{step.span.line}"


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table of steps; `source` may need several lines."""

    mark: str
    routine: str
    line: str
    source: tuple[str, ...]
    irql: str
    held: str


def _steps(trace: Trace, style: Style) -> list[str]:
    """The steps as aligned columns, the failing one marked."""
    if not trace.steps:
        return []
    head = _Row("", "routine", "line", ("source",), "IRQL", "held")
    rows = [head, *_rows(trace)]
    routine = _widest((r.routine for r in rows), style.width // 5)
    line = _widest((r.line for r in rows), style.width // 5)
    held = _widest((r.held for r in rows), style.width // 4)
    irql = _widest((r.irql for r in rows), 8)
    source = style.width - len(" > ") - routine - line - irql - held - 4 * len(_GAP)
    lines: list[str] = []
    for row in rows:
        cells = (
            _cell([row.routine], routine),
            _cell([row.line.rjust(line)], line),
            _cell(row.source, source),
            [row.irql.ljust(irql)],
            _cell([row.held], held),
        )
        kind = "faint" if row is head else "violated" if row.mark else None
        lines += [style.paint(kind, text) if kind else text for text in _side_by_side(row.mark, cells)]
    return lines


_GAP = "  "


def _rows(trace: Trace) -> Iterator[_Row]:
    before: Step | None = None
    for step in trace.steps:
        same_call = before is not None and (before.routine, before.depth) == (step.routine, step.depth)
        remarks = [*map(_choice, step.choices), *([clean(step.note)] if step.note else [])]
        yield _Row(
            mark=">" if step is trace.steps[-1] else "",
            routine="" if same_call else "  " * min(step.depth, 4) + clean(step.routine),
            line=_place(step, trace.steps[0]),
            source=(_source_text(step), *(f"  - {remark}" for remark in remarks)),
            irql=level_name(step.irql),
            held=", ".join(_held_lock(*entry) for entry in step.held),
        )
        before = step


def _widest(cells: Iterable[str], limit: int) -> int:
    return min(max(map(len, cells)), limit)


def _cell(texts: Iterable[str], width: int) -> list[str]:
    """The lines of one cell, each `width` long: wrapped, and indented as the text began."""
    lines: list[str] = []
    for text in texts:
        indent = " " * (len(text) - len(text.lstrip()))
        lines += textwrap.wrap(text.strip(), width, initial_indent=indent, subsequent_indent=indent + "  ") or [""]
    return [line.ljust(width) for line in lines]


def _side_by_side(mark: str, cells: tuple[list[str], ...]) -> Iterator[str]:
    """Cells of one row next to each other; the shorter ones are filled up."""
    blanks = [" " * len(cell[0]) for cell in cells]
    for number in range(max(map(len, cells))):
        texts = [cell[number] if number < len(cell) else blank for cell, blank in zip(cells, blanks, strict=True)]
        yield f" {mark if number == 0 else '':1} {_GAP.join(texts)}".rstrip()


def _acquired_notes(trace: Trace, subject: str) -> Iterator[str]:
    """Where each lock that matters was last acquired: those held in the failing step, and the subject."""
    if not trace.steps:
        return
    acquired: dict[str, Step] = {}
    before: dict[str, int] = {}
    for step in trace.steps:
        now = {name: count for name, _, count in step.held}
        for name, count in now.items():
            if count > before.get(name, 0):
                acquired[name] = step
        before = now
    failing = trace.steps[-1]
    relevant = {subject} | {name for step in trace.steps[-2:] for name, _, _ in step.held}
    for name, step in sorted(acquired.items()):
        if name in relevant and step is not failing:
            yield f"note: {clean(name)} was acquired at {clean(step.span.source.name)}:{step.span.line}"


# ---- unknown, unreachable, proved ----


def undecided(result: Result, verdict: Undecided, unmodelled: Sequence[str], style: Style) -> str:
    """One obligation that was not decided: why, what is known all the same, what would help."""
    lines = _heading(result, "unknown", style)
    lines.append(_wrapped(f"why: {clean(verdict.reason)}", style, "  ", "    "))
    if verdict.reached:
        lines.append(_wrapped(f"known: {clean(verdict.reached)}", style, "  ", "    "))
    lines.append(_wrapped(f"help: {_advice(verdict, unmodelled)}", style, "  ", "    "))
    return "\n".join(lines)


def _advice(verdict: Undecided, unmodelled: Sequence[str]) -> str:
    for name in unmodelled:
        if name in verdict.reason:
            return f"say what it does: `extern {clean(name)}(..)` with clauses or a body, in a model that you import"
    return "give it more time (--timeout), or say less at once: clauses on a called routine, a narrower int, an assume"


def _unreachable(report: Report, style: Style) -> Iterator[str]:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for result in report.results:
        if isinstance(result.verdict, Proved) and result.verdict.unreachable:
            span, routine = result.obligation.span, result.obligation.routine
            where = f"{clean(span.source.name)}:{span.line}" + (f" in {clean(routine)}" if routine else "")
            places[where].append(str(result.obligation.code))
    if places:
        count = sum(map(len, places.values()))
        noun = "1 obligation holds" if count == 1 else f"{count} obligations hold"
        head = style.paint("warning", _wrapped(f"warning: {noun} only because no path comes here:", style))
        lines = (f"{where}: {', '.join(sorted(set(codes)))}" for where, codes in places.items())
        yield "\n".join([head, *(_wrapped(line, style, "  ", "    ") for line in lines)])


def _summary(results: Sequence[Result], style: Style) -> str:
    """A line for each property that the model has obligations of."""
    rows: defaultdict[Property, list[Result]] = defaultdict(list)
    for result in results:
        rows[result.obligation.code].append(result)
    name_width = style.width - 3 * 10
    head = "property".ljust(name_width) + "".join(h.rjust(10) for h in ("proved", "violated", "unknown"))
    lines = [style.paint("faint", head.rstrip())]
    for code in sorted(rows):
        counted = tally(rows[code])
        name = textwrap.wrap(f"{code} {title(code)}", name_width - 2, subsequent_indent="    ")
        cells = [(counted.proved, "proved"), (counted.violated, "violated"), (counted.unknown, "unknown")]
        numbers = "".join(style.paint(kind, str(n).rjust(10)) if n else "-".rjust(10) for n, kind in cells)
        lines += [name[0].ljust(name_width) + numbers, *name[1:]]
    return "\n".join(lines)


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
