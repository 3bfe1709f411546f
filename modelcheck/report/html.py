"""A report as one page: nothing is loaded from anywhere, so that it can be mailed, archived, opened without a network.

What can be read without a script is HTML made here; the runs of violations are data, which `page.js` shows step by
step. Everything that comes from a model is text: escaped in the HTML, and in the data without a character that ends a
script. A content security policy allows this page's own script and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias, assert_never

from modelcheck.diagnostics import Diagnostic
from modelcheck.report.explain import title
from modelcheck.report.machine import Whole
from modelcheck.report.outcome import Exit, Outcome, Tally, tally, word
from modelcheck.report.run import Case, Moment, Run, alike_words, by_scenario, cases, places_alike
from modelcheck.report.words import (
    advice,
    clean,
    file_name,
    held_words,
    level_name,
    place_words,
    ruled_words,
    stuck_words,
)
from modelcheck.source import Source, Span
from modelcheck.verdict import Hierarchy, Proved, Report, Result, Undecided, Verdict, Violated

Json: TypeAlias = dict[str, Any]

_MARKS = {"proved": "\N{CHECK MARK}", "violated": "\N{BALLOT X}", "unknown": "?"}
_EXITS = {
    Exit.PROVED: "everything asked for was checked and proved",
    Exit.VIOLATED: "something is violated",
    Exit.WRONG_INPUT: "a model is wrong",
    Exit.UNKNOWN: "nothing is violated, but something is unknown",
    Exit.INTERNAL_ERROR: "an internal error",
    Exit.NOTHING_CHECKED: "nothing was checked",
}


def dumps(whole: Whole) -> str:
    """The whole run as one HTML document. The same input gives the same bytes."""
    data = _Data()
    sections = "".join(_file(outcome, number, data, whole) for number, outcome in enumerate(whole.outcomes, 1))
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    remarks = "".join(f"<p>{_text(line)}</p>\n" for line in whole.remarks)
    names = [o.report.driver if o.report else file_of(o.path) for o in whole.outcomes]
    heading = f"modelcheck: {', '.join(names) if len(names) < 4 else f'{len(names)} models'}"
    verdict = _EXITS.get(whole.exit_status, "the run was cut short")
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(heading)}</title>\n<style>\n{_asset('page.css')}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#content">To the findings</a>\n'
        f"<header>\n<h1>{_text(heading)}</h1>\n"
        f"<p>{_tally(whole.total)}: {_text(verdict)} (exit status {int(whole.exit_status)}).</p>\n"
        f"{remarks}"
        f"{_contents(whole.outcomes)}</header>\n"
        f'<main id="content">\n{sections}</main>\n'
        f"<footer><p>modelcheck {_text(whole.version)}, {_text(whole.solver)}. In a run: arrow keys, Home and End go "
        "through its steps; the address in the browser's bar names the step.</p></footer>\n"
        f'<script type="application/json" id="data">{_script_json(data.document())}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


@cache
def _asset(name: str) -> str:
    return (files("modelcheck.report") / name).read_text(encoding="utf-8")


def _text(text: str) -> str:
    """Text of a model as text of the page."""
    return html.escape(clean(text))


def file_of(path: str) -> str:
    """The file's name without its folders."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def _script_json(document: Json) -> str:
    """JSON in which nothing ends a script element or begins a comment."""
    text = json.dumps(document, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# ---- a file ----


def _contents(outcomes: Sequence[Outcome]) -> str:
    if len(outcomes) < 2:
        return ""
    items = "".join(
        f'<li><a href="#file-{n}">{_text(o.path)}</a> {_tally(tally(o.report.results)) if o.report else ""}</li>\n'
        for n, o in enumerate(outcomes, 1)
    )
    return f'<nav aria-label="Files"><ul>\n{items}</ul></nav>\n'


def _tally(counts: Tally) -> str:
    """`31 proved, 1 violated, 0 unknown`, each with its mark."""
    parts = [
        f'<span class="{kind}">{_MARKS[kind]} {number} {kind}</span>'
        for kind, number in (("proved", counts.proved), ("violated", counts.violated), ("unknown", counts.unknown))
    ]
    more = f" ({counts.unreachable} unreachable)" if counts.unreachable else ""
    return ", ".join(parts) + more


def _file(outcome: Outcome, number: int, data: _Data, whole: Whole) -> str:
    parts = [f'<section class="file" id="file-{number}" aria-labelledby="file-{number}-name">\n']
    parts.append(f'<h2 id="file-{number}-name">{_text(outcome.path)}</h2>\n')
    if outcome.only_imported:
        parts.append("<p>Declares no driver; it is checked where it is imported.</p>\n")
    if outcome.crashed:
        parts.append(f'<p class="violated">Internal error: {_text(outcome.crashed)}</p>\n')
    parts += [_diagnostic(d) for d in outcome.rejected]
    if outcome.report:
        ended = {Exit.NOTHING_CHECKED: ": nothing to check: the model has no obligations"}
        told = ended.get(whole.status(outcome), "")
        parts.append(f"<p>Driver {_text(outcome.report.driver)}: {_tally(tally(outcome.report.results))}{told}.</p>\n")
        parts += _report(outcome.report, number, data)
    parts.append("</section>\n")
    return "".join(parts)


def _report(report: Report, number: int, data: _Data) -> Iterator[str]:
    found = tuple(cases(report))
    numbers: dict[Result, int] = {}
    if found:
        yield "<h3>Violations</h3>\n"
    for case in found:
        shown = data.add(case)
        numbers.update(dict.fromkeys(case.results, shown))
        yield _case(case, shown)
    unknown = [result for result in by_scenario(report.results) if isinstance(result.verdict, Undecided)]
    if unknown:
        items = "".join(_unknown(r, report.unmodelled) for r in unknown)
        yield f'<h3>Unknown</h3>\n<ul class="unknowns">\n{items}</ul>\n'
    if report.hierarchy and report.hierarchy.ranks:
        yield _hierarchy(report.hierarchy, number)
    if report.warnings:
        yield f"<h3>Warnings</h3>\n{''.join(map(_diagnostic, report.warnings))}"
    if report.results:
        yield _matrix(report.results, number)
        yield _obligations(report.results, numbers, number)


def _place(span: Span) -> str:
    return _text(f"{span.source.name}:{span.line}")


def _diagnostic(diagnostic: Diagnostic) -> str:
    kind = "violated" if diagnostic.code.is_error else "unknown"
    where = f" at {_place(diagnostic.span)}" if diagnostic.span else ""
    lines = [
        f'<p><strong class="{kind}">{_text(str(diagnostic.code))}</strong>{where}: {_text(diagnostic.message)}</p>'
    ]
    if diagnostic.span:
        line = diagnostic.span.source.line(diagnostic.span.line)
        lines.append(f'<pre tabindex="0" role="region" aria-label="Source line">{_text(line)}</pre>')
    for note in diagnostic.notes:
        lines.append(f"<p>{_text(note.message)}{f' at {_place(note.span)}' if note.span else ''}</p>")
    if diagnostic.help:
        lines.append(f"<p>Help: {_text(diagnostic.help)}</p>")
    return f'<div class="diagnostic">{"".join(lines)}</div>\n'


def _unknown(result: Result, unmodelled: tuple[str, ...]) -> str:
    verdict = result.verdict
    assert isinstance(verdict, Undecided)
    o = result.obligation
    known = f"<br>Known: {_text(verdict.reached)}" if verdict.reached else ""
    must = f"<br>Must hold: {_text(o.why)}" if o.why else ""
    return (
        f"<li><strong>{o.code}</strong> {_text(title(o.code))}<br>{_where(result)}{must}"
        f"<br>Why: {_text(verdict.reason)}{known}<br>What would help: {_text(advice(verdict, unmodelled))}</li>\n"
    )


def _where(result: Result) -> str:
    o = result.obligation
    parts = [_place(o.span)]
    if o.routine:
        parts.append(f" in {_text(o.routine)}")
    if o.scenario:
        parts.append(f", scenario {_text(o.scenario)}")
    if o.subject and o.subject != o.routine:
        parts.append(f": <code>{_text(o.subject)}</code>")
    return "".join(parts)


# ---- a violation ----


def _case(case: Case, number: int) -> str:
    """What is violated; where its run is shown by the script."""
    first = case.results[0].obligation
    asked = "".join(
        f"<li><strong>{r.obligation.code}</strong> {_text(title(r.obligation.code))}, {_where(r)}."
        f"{f' Must hold: {_text(r.obligation.why)}' if r.obligation.why else ''}</li>\n"
        for r in case.results
    )
    replayed = all(isinstance(r.verdict, Violated) and r.verdict.replayed for r in case.results)
    strength = "" if replayed else '<p class="violated">Internal error: the interpreter did not confirm this run.</p>'
    waits = "".join(
        f"<li>{_text(case.run.lanes[b.wait.actor].title)} {_text(b.words)}{_calls(b.calls)}</li>\n"
        for b in case.run.blocked
    )
    ring = (
        f'<p>{stuck_words(len(case.run.blocked)).capitalize()}</p>\n<ul class="ring">\n{waits}</ul>\n' if waits else ""
    )
    more = f" and {len(case.results) - 1} more" if len(case.results) > 1 else ""
    return (
        f'<details class="case" id="v{number}" data-case="{number}"{" open" if number == 1 else ""}>\n'
        f'<summary><span class="violated">{_MARKS["violated"]} {first.code} violated</span>{more}: '
        f"{_text(title(first.code))} <span class='faint'>{_where(case.results[0])}</span></summary>\n"
        f'<ul class="asked">\n{asked}</ul>\n{strength}{_start(case.run)}'
        f'<div class="run" data-run="{number}"><noscript>The steps of this run need JavaScript.</noscript></div>\n'
        f"{ring}{_alike(case)}</details>\n"
    )


def _alike(case: Case) -> str:
    """Where else it is violated for the same reason."""
    if not case.alike:
        return ""
    items = "".join(
        f"<li><code>{_text(routine)}</code>: {_text(lines)}</li>\n" for routine, lines in places_alike(case)
    )
    return f'<p>{_text(alike_words(case))}</p>\n<ul class="asked">\n{items}</ul>\n'


def _calls(calls: Sequence[tuple[str, Span]]) -> str:
    if len(calls) < 2:
        return ""
    return ", in " + " &gt; ".join(f"{_text(name)} at {file_name_text(span)}:{span.line}" for name, span in calls)


def file_name_text(span: Span) -> str:
    """The file's name without its folders, as text of the page."""
    return html.escape(file_name(span))


def _start(run: Run) -> str:
    said = [
        (f"{lane.title} starts: " if len(run.lanes) > 1 else "Start: ") + "; ".join(lane.start)
        for lane in run.lanes
        if lane.start
    ]
    return "".join(f"<p>{_text(line)}</p>\n" for line in said)


class _Data:
    """What the script shows: sources once, runs with short names for what is in every step."""

    def __init__(self) -> None:
        self.sources: dict[int, tuple[int, Source]] = {}
        self.runs: list[Json] = []

    def add(self, case: Case) -> int:
        """The number of the run on the page."""
        self.runs.append(self._run(case))
        return len(self.runs)

    def document(self) -> Json:
        kept = [source for _, source in sorted(self.sources.values(), key=lambda entry: entry[0])]
        return {"sources": [_source(source) for source in kept], "runs": self.runs}

    def _source_number(self, source: Source) -> int:
        return self.sources.setdefault(id(source), (len(self.sources), source))[0]

    def _run(self, case: Case) -> Json:
        run = case.run
        helds: dict[tuple[str, ...], int] = {}
        steps = []
        for moment in run.moments:
            step = moment.step
            held = tuple(held_words(*entry) for entry in step.held)
            made: Json = {
                "c": moment.lane,
                "s": self._source_number(step.span.source),
                "l": step.span.line,
                "t": moment.text,
                "q": step.irql,
                "h": helds.setdefault(held, len(helds)),
            }
            notes = [moment.halt] if moment.halt else []
            optional = {
                "d": step.depth,
                "r": clean(step.routine) if step.depth else "",
                "n": [*notes, *moment.remarks],
                "w": int(bool(moment.waits)),
                "x": int(moment.number in run.bad),
                "b": list(_broken(case, moment)),
                "e": int(moment.ends),
            }
            steps.append(made | {name: value for name, value in optional.items() if value})
        levels = sorted({m.step.irql for m in run.moments} | {lane.irql for lane in run.lanes if lane.irql is not None})
        return {
            "lanes": [
                {"name": lane.name, "kind": lane.kind, "processor": lane.processor, "irql": lane.irql}
                for lane in run.lanes
            ],
            "order": run.order,
            "levels": {level: level_name(level) for level in levels},
            "helds": [list(held) for held in helds],
            "steps": steps,
        }


def _broken(case: Case, moment: Moment) -> Iterator[str]:
    """What is wrong at a moment, and what was expected; nothing where nothing is."""
    if case.run.blocked:
        if moment is case.run.moments[-1]:
            yield from (f"for ever: {case.run.lanes[b.wait.actor].name} {b.words}" for b in case.run.blocked)
    elif moment.number in case.run.bad:
        for code, why in dict.fromkeys((r.obligation.code, r.obligation.why) for r in case.results):
            yield f"{code} violated" + (f", expected: {clean(why)}" if why else "")


def _source(source: Source) -> Json:
    lines = ["".join(_shown(c) for c in line) for line in source.text.split("\n")]
    return {"name": clean(source.name), "lines": lines[:-1] if lines[-1] == "" else lines}


def _shown(character: str) -> str:
    return character if character.isprintable() or character == "\t" else "" if character == "\r" else "\ufffd"


# ---- the lock hierarchy ----


def _hierarchy(order: Hierarchy, number: int) -> str:
    by_rank: defaultdict[int, list[str]] = defaultdict(list)
    for lock, rank in order.ranks:
        by_rank[rank].append(f"{lock} (event)" if lock in order.events else lock)
    ranks = "".join(
        f'<li value="{rank}">{" ".join(f"<code>{_text(lock)}</code>" for lock in sorted(locks))}</li>\n'
        for rank, locks in sorted(by_rank.items())
    )
    rows = "".join(
        f"<tr><td><code>{_text(held)}</code></td><td><code>{_text(wanted)}</code></td>"
        f"<td>{', '.join(dict.fromkeys(_text(place_words(span)) for span in places))}</td></tr>\n"
        for held, wanted, places in order.order
    )
    table = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Which lock is waited for under which">\n'
        '<table class="order">\n<thead><tr><th scope="col">held</th><th scope="col">wanted</th>'
        '<th scope="col">at</th></tr></thead>\n'
        f"<tbody>\n{rows}</tbody></table></div>\n"
    )
    ruled = "".join(f"<li>{_text(ruled_words(entry))}</li>\n" for entry in order.ruled)
    return (
        f'<h3 id="hierarchy-{number}">Lock hierarchy</h3>\n<p>Who holds a lock waits only for those further down.</p>\n'
        f'<ol class="ranks">\n{ranks}</ol>\n{table if rows else ""}'
        + (f"<p>But for these:</p>\n<ul>\n{ruled}</ul>\n" if ruled else "")
    )


# ---- all obligations ----


def _matrix(results: Sequence[Result], number: int) -> str:
    """A row for each routine, a column for each property."""
    codes = sorted({r.obligation.code for r in results})
    rows: dict[tuple[str, str], defaultdict[str, list[Result]]] = {}
    for result in by_scenario(results):
        o = result.obligation
        rows.setdefault((o.scenario, o.routine), defaultdict(list))[o.code].append(result)
    head = "".join(f'<th scope="col"><abbr title="{_text(title(code))}">{code}</abbr></th>' for code in codes)
    body = "".join(
        f'<tr><th scope="row">{_text(routine or "declarations")}'
        f"{f' <span class=faint>in scenario {_text(scenario)}</span>' if scenario else ''}</th>"
        f"{''.join(_cell(cells.get(code, ())) for code in codes)}</tr>\n"
        for (scenario, routine), cells in rows.items()
    )
    return (
        f'<h3>By routine and property</h3>\n<div class="scroll" tabindex="0" role="region" '
        f'aria-label="Verdicts by routine and property">\n<table class="matrix">\n'
        f'<thead><tr><th scope="col">routine</th>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n'
    )


def _cell(results: Iterable[Result]) -> str:
    counted = tally(results)
    said = [
        f'<span class="{kind}">{_MARKS[kind]}<span class="hidden"> {kind}</span>{count}</span>'
        for kind, count in (("violated", counted.violated), ("unknown", counted.unknown), ("proved", counted.proved))
        if count
    ]
    return f"<td>{' '.join(said)}</td>"


def _obligations(results: Sequence[Result], numbers: dict[Result, int], number: int) -> str:
    rows = "".join(_obligation(r, numbers.get(r)) for r in by_scenario(results))
    return (
        f"<h3>All obligations</h3>\n"
        f'<div class="filter"><label for="words-{number}">Find</label> '
        f'<input type="search" id="words-{number}" data-filter="{number}">'
        f' <label for="verdict-{number}">Verdict</label> <select id="verdict-{number}" data-filter="{number}">'
        '<option value="">any</option><option>violated</option><option>unknown</option><option>proved</option></select>'
        f' <output id="count-{number}">{len(results)} obligations</output></div>\n'
        f'<div class="scroll tall" tabindex="0" role="region" aria-label="All obligations">\n'
        f'<table class="obligations" id="obligations-{number}">\n<thead><tr><th scope="col">verdict</th>'
        '<th scope="col">property</th><th scope="col">where</th><th scope="col">must hold</th>'
        f'<th scope="col">strength</th></tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n'
    )


def _obligation(result: Result, run: int | None) -> str:
    o, kind = result.obligation, word(result.verdict)
    return (
        f'<tr data-v="{kind}"><td class="{kind}">{_MARKS[kind]} {kind}</td><td>{o.code}</td><td>{_where(result)}</td>'
        f"<td>{_text(o.why)}</td><td>{_strength(result.verdict, run)}</td></tr>\n"
    )


def _strength(verdict: Verdict, run: int | None) -> str:
    """What a verdict rests on."""
    match verdict:
        case Proved(certificate, unreachable):
            what = f"certified by {_text(certificate)}" if certificate != "declaration" else "by its declaration"
            return f"{what}; no path comes here" if unreachable else what
        case Violated(_, replayed):
            link = f'<a href="#v{run}">a run</a>' if run else "a run"
            return f"{link}, replayed step by step" if replayed else f"{link} that was not confirmed"
        case Undecided(reason):
            return _text(reason)
        case _:
            assert_never(verdict)
