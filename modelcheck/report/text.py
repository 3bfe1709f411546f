"""A report for people: what is violated and how it comes about, what is unknown and why, what was proved, in counts.

Everything fits the given width (80 columns by default); nothing is cut off, long cells wrap. Colour is decoration only.
"""

from __future__ import annotations

import re
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
INITIALISED = 1
_LIFE = {0: "not initialised", INITIALISED: "initialised", 2: "freed"}
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
    blocks = list(_violations(report, style))
    for result in report.results:
        if isinstance(result.verdict, Undecided):
            blocks.append(undecided(result, result.verdict, report.unmodelled, style))
    if not quiet:
        blocks += [render(d).rstrip("\n") for d in report.warnings]
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


def _violations(report: Report, style: Style) -> Iterator[str]:
    """Each violated obligation; a run that breaks several is shown once."""
    shown: dict[Trace, Result] = {}
    locks = frozenset(r.obligation.subject for r in report.results if r.obligation.code.startswith("B"))
    for result in report.results:
        if isinstance(result.verdict, Violated):
            first = shown.setdefault(result.verdict.trace, result)
            quiet_about = frozenset() if result.obligation.code is Property.B08 else locks
            yield violation(result, result.verdict, style, quiet_about, None if first is result else first)


def violation(
    result: Result,
    verdict: Violated,
    style: Style,
    quiet_about: frozenset[str] = frozenset(),
    same_run: Result | None = None,
) -> str:
    """One violated obligation: what, where, how it starts, each step, where the locks were taken.

    `quiet_about` names locks whose fields are not told: how others use a lock matters where the property is about that.
    `same_run` is an obligation that the same run breaks, and that has been shown already.
    """
    trace = verdict.trace
    lines = [*_heading(result, "violated", style), ""]
    if same_run is not None:
        other = same_run.obligation
        return "\n".join(
            [*lines, _wrapped(f"the run is that of {other.code} at {clean(str(other.span))}, above", style, "  ")]
        )
    start = [text for choice in trace.start if not _is_field(choice, quiet_about) and (text := _start(choice))]
    if start:
        lines += [_wrapped("start: " + "; ".join(start), style, "  "), ""]
    lines += _steps(trace, quiet_about, style)
    lines += [_wrapped(note, style, "  ") for note in _acquired_notes(trace, result.obligation.subject)]
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
    if obligation.subject not in ("", obligation.routine):
        where += f": {clean(obligation.subject)}"
    lines = [style.paint("strong", style.paint(kind, line)) for line in what]
    lines.append(_wrapped(f"--> {where}", style, "  ", "      "))
    if obligation.why:
        lines.append(_wrapped(f"must hold: {clean(obligation.why)}", style, "  ", "    "))
    return lines


def _start(choice: Choice) -> str:
    """What was open at the start, in words; empty for what goes without saying."""
    kind, _, name = clean(choice.name).partition(" ")
    match kind:
        case "irql":
            return f"IRQL is {level_name(choice.value)}"
        case "life":
            return "" if choice.value == INITIALISED else f"{name} is {_LIFE.get(choice.value, str(choice.value))}"
        case "held":
            return f"{name} is {_HOLD.get(choice.value, str(choice.value))}"
        case "var" | "param":
            return f"{name} is {choice.shown or choice.value}"
        case _:
            return f"{clean(choice.name)} is {choice.shown or choice.value}"


def _choice(choice: Choice) -> str:
    """How something left open went, in words."""
    kind, _, name = clean(choice.name).partition(" ")
    match kind:
        case "*":
            return f"* is {choice.shown or choice.value}"
        case "try":
            return "the attempt succeeds" if choice.value else "the attempt fails"
        case "var" | "param":
            return f"{name} is {choice.shown or choice.value}"
        case "uninit":
            return f"{name} happens to be {choice.shown or choice.value}"
        case "result":
            return f"gives back {choice.shown or choice.value}"
        case "out":
            return f"{name} becomes {choice.value}"
        case "counter":
            return f"counter {name} becomes {choice.value}"
        case "count":
            return f"{name} is then held {choice.value} times"
        case _:
            return f"{clean(choice.name)} is {choice.shown or choice.value}"


def _held_lock(name: str, mode: str, count: int) -> str:
    text = clean(name) if mode in ("", "exclusive") else f"{clean(name)} ({clean(mode)})"
    return text if count == 1 else f"{text} x{count}"


_CLOSING = re.compile(r"[ \t)\]]*;?")
_COMMENT = re.compile(r"\s*//.*")


def _source_text(step: Step, first: bool) -> str:
    """The statement as written, up to its `;`: the first line; of a condition the whole line, and how it went."""
    source, text = step.span.source, step.span.text
    if text == step.routine:
        return f"{'start' if first else 'end'} of {clean(text)}"
    if step.taken is not None:
        line = _COMMENT.sub("", source.line(step.span.line))
        return f"{clean(line)}  ({'true' if step.taken else 'false'})"
    lines = text.splitlines()
    if len(lines) > 1:
        return clean(lines[0])
    closing = _CLOSING.match(source.text, step.span.end)
    return clean(text + (closing.group() if closing else ""))


def _is_field(choice: Choice, locks: frozenset[str]) -> bool:
    """Whether it is about a field of one of these locks."""
    return choice.name.rpartition(" ")[2].rpartition(".")[0] in locks


def _remarks(step: Step, quiet_about: frozenset[str]) -> Iterator[str]:
    """How the open choices of a step went, as far as its text does not say it."""
    for choice in step.choices:
        if not _is_field(choice, quiet_about) and not (choice.name == "*" and step.taken is not None):
            yield _choice(choice)
    if step.note:
        yield clean(step.note)


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


def _steps(trace: Trace, quiet_about: frozenset[str], style: Style) -> list[str]:
    """The steps as aligned columns, the failing one marked."""
    if not trace.steps:
        return []
    head = _Row("", "routine", "line", ("source",), "IRQL", "held")
    rows = [head, *_rows(trace, quiet_about)]
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


def _rows(trace: Trace, quiet_about: frozenset[str]) -> Iterator[_Row]:
    before: Step | None = None
    for step in trace.steps:
        same_call = before is not None and (before.routine, before.depth) == (step.routine, step.depth)
        last = step is trace.steps[-1]
        yield _Row(
            mark=">" if last else "",
            routine="" if same_call else "  " * min(step.depth, 4) + clean(step.routine),
            line=_place(step, trace.steps[0]),
            source=(_source_text(step, before is None), *(f"  - {remark}" for remark in _remarks(step, quiet_about))),
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


# ---- unknown, proved ----


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
    simpler = "say it more simply here: clauses on a called routine, a narrower int, constants for what is computed"
    return f"give it more time (--timeout), or {simpler}" if _OUT_OF_TIME.search(verdict.reason) else simpler


_OUT_OF_TIME = re.compile(r"\b(time|steps|limit|budget)\b")


_COLUMNS = {"proved": 8, "violated": 10, "unknown": 9}


def _summary(results: Sequence[Result], style: Style) -> str:
    """A line for each property that the model has obligations of."""
    rows: defaultdict[Property, list[Result]] = defaultdict(list)
    for result in results:
        rows[result.obligation.code].append(result)
    name_width = style.width - sum(_COLUMNS.values())
    head = "property".ljust(name_width) + "".join(kind.rjust(width) for kind, width in _COLUMNS.items())
    lines = [style.paint("faint", head)]
    for code in sorted(rows):
        counted = tally(rows[code])
        name = textwrap.wrap(f"{code} {title(code)}", name_width, subsequent_indent="    ")
        numbers = ""
        for kind, width in _COLUMNS.items():
            number = getattr(counted, kind)
            numbers += style.paint(kind, str(number).rjust(width)) if number else "-".rjust(width)
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
