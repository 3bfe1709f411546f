"""A report for programs: everything that was found, as docs/report.schema.json describes it.

The same input gives the same bytes: source order, no times, paths as they were given. What is long (results, schedules)
is made while it is written, thing by thing, so that a report needs no more memory than its longest result.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, TypeAlias, assert_never

from modelcheck.diagnostics import Diagnostic
from modelcheck.report.explain import title
from modelcheck.report.outcome import Exit, Outcome, Tally, status, tally, word
from modelcheck.source import Span
from modelcheck.verdict import (
    Actor,
    Choice,
    Hierarchy,
    Proved,
    Report,
    Result,
    Schedule,
    Step,
    Trace,
    Turn,
    Undecided,
    Verdict,
    Violated,
    Wait,
)

Json: TypeAlias = dict[str, Any]

FORMAT = 1
"""Raised when a field changes its meaning or goes away; new fields do not raise it."""


def dumps(outcomes: Sequence[Outcome], exit_status: Exit, version: str, undecided_is_error: bool = True) -> str:
    """The whole run as JSON text, ending with a newline."""
    return "".join(parts(outcomes, exit_status, version, undecided_is_error))


def parts(
    outcomes: Sequence[Outcome], exit_status: Exit, version: str, undecided_is_error: bool = True
) -> Iterator[str]:
    """The text of `dumps` piece by piece, each made when it is asked for."""
    total = sum((tally(o.report.results) for o in outcomes if o.report), Tally())
    document = {
        "format": FORMAT,
        "tool": {"name": "modelcheck", "version": version},
        "exit": int(exit_status),
        "summary": {"files": len(outcomes), **_tally(total)},
        "files": [_file(o, undecided_is_error) for o in outcomes],
    }
    yield from _pieces(document, "\n")
    yield "\n"


def _pieces(value: Any, margin: str) -> Iterator[str]:
    """JSON as `json.dumps` lays it out with an indent of 2, piece by piece; `margin` is the newline before it, with its
    indent. An iterator is an array: each thing in it is one piece, made when its turn comes."""
    inner = f"{margin}  "
    before = ""
    if isinstance(value, Iterator):
        for item in value:
            yield f"{before or '['}{inner}{_laid(item, inner)}"
            before = ","
        yield f"{margin}]" if before else "[]"
    elif value and isinstance(value, list):
        for item in value:
            yield f"{before or '['}{inner}"
            yield from _pieces(item, inner)
            before = ","
        yield f"{margin}]"
    elif value and isinstance(value, dict):
        for key, item in value.items():
            yield f'{before or "{"}{inner}"{key}": '
            yield from _pieces(item, inner)
            before = ","
        yield f"{margin}}}"
    else:
        yield _laid(value, margin)


def _laid(value: Any, margin: str) -> str:
    """The same for a value without iterators, in one piece: `json.dumps` takes three times as long."""
    kind = value.__class__
    if kind is str:
        return quoted(value)
    if kind is int:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is dict and value:
        inner = f"{margin}  "
        fields = [
            f'{inner}"{key}": {quoted(item) if item.__class__ is str else _laid(item, inner)}'
            for key, item in value.items()
        ]
        return f"{{{','.join(fields)}{margin}}}"
    if kind is list and value:
        inner = f"{margin}  "
        return f"[{inner}{f',{inner}'.join([_laid(item, inner) for item in value])}{margin}]"
    return json.dumps(value)


def _tally(counts: Tally) -> Json:
    return {
        "proved": counts.proved,
        "violated": counts.violated,
        "unknown": counts.unknown,
        "unreachable": counts.unreachable,
    }


def _file(outcome: Outcome, undecided_is_error: bool) -> Json:
    report = outcome.report
    return {
        "path": outcome.path,
        "status": "only imported" if outcome.only_imported else _STATUS[status(outcome, undecided_is_error)],
        "diagnostics": [_diagnostic(d) for d in outcome.rejected],
        "internal_error": outcome.crashed or None,
        "report": _report(report) if report else None,
    }


_STATUS = {
    Exit.PROVED: "proved",
    Exit.VIOLATED: "violated",
    Exit.WRONG_INPUT: "rejected",
    Exit.UNKNOWN: "unknown",
    Exit.INTERNAL_ERROR: "internal error",
    Exit.NOTHING_CHECKED: "nothing checked",
}


def _report(report: Report) -> Json:
    schedules: dict[Schedule, int] = {}
    for result in report.results:
        if isinstance(result.verdict, Violated) and isinstance(result.verdict.trace, Schedule):
            schedules.setdefault(result.verdict.trace, len(schedules))
    return {
        "driver": report.driver,
        "summary": _tally(tally(report.results)),
        "results": (_result(r, schedules) for r in report.results),
        "schedules": (_schedule(s) for s in schedules),
        "hierarchy": _hierarchy(report.hierarchy) if report.hierarchy else None,
        "warnings": [_diagnostic(d) for d in report.warnings],
        "unmodelled": list(report.unmodelled),
    }


def _result(result: Result, schedules: dict[Schedule, int]) -> Json:
    obligation = result.obligation
    return {
        "id": obligation.id,
        "code": str(obligation.code),
        "title": title(obligation.code),
        "routine": obligation.routine,
        "subject": obligation.subject,
        "why": obligation.why,
        "scenario": obligation.scenario,
        "place": _place(obligation.span),
        "verdict": word(result.verdict),
        **_evidence(result.verdict, schedules),
    }


def _evidence(verdict: Verdict, schedules: dict[Schedule, int]) -> Json:
    match verdict:
        case Proved():
            return {"certificate": verdict.certificate, "unreachable": verdict.unreachable}
        case Violated():
            return {"replayed": verdict.replayed, **_run(verdict.trace, schedules)}
        case Undecided():
            return {"reason": verdict.reason, "reached": verdict.reached}
        case _:
            assert_never(verdict)


def _run(evidence: Trace | Schedule, schedules: dict[Schedule, int]) -> Json:
    if isinstance(evidence, Schedule):
        return {"schedule": schedules[evidence]}
    return {"trace": _trace(evidence)}


def _trace(trace: Trace) -> Json:
    return {
        "root": trace.root,
        "start": [_choice(c) for c in trace.start],
        "steps": [_step(s) for s in trace.steps],
    }


def _schedule(schedule: Schedule) -> Json:
    return {
        "scenario": schedule.scenario,
        "processors": schedule.processors,
        "contexts": [_actor(a) for a in schedule.actors],
        "turns": [_turn(t) for t in schedule.turns],
        "waits": [_wait(w) for w in schedule.waits],
    }


def _actor(actor: Actor) -> Json:
    return {
        "name": actor.name,
        "routine": actor.routine,
        "kind": actor.kind,
        "processor": actor.processor,
        "start": [_choice(c) for c in actor.start],
    }


def _turn(turn: Turn) -> Json:
    return {
        "context": turn.actor,
        "event": turn.event,
        "lock": turn.lock,
        "mode": turn.mode,
        "step": _step(turn.step),
    }


def _wait(wait: Wait) -> Json:
    return {"context": wait.actor, "reason": wait.reason, "subject": wait.subject, "by": list(wait.by)}


def _hierarchy(hierarchy: Hierarchy) -> Json:
    return {
        "ranks": [{"lock": name, "rank": rank} for name, rank in hierarchy.ranks],
        "order": (
            {"held": held, "wanted": wanted, "places": [_place(span) for span in places]}
            for held, wanted, places in hierarchy.order
        ),
        "ruled_out": [{"locks": list(ruled.locks), "by": ruled.by} for ruled in hierarchy.ruled],
    }


def _step(step: Step) -> Json:
    return {
        "routine": step.routine,
        "depth": step.depth,
        "place": _place(step.span),
        "text": first_line(step.span),
        "taken": step.taken,
        "irql": step.irql,
        "held": [{"lock": name, "mode": mode, "count": count} for name, mode, count in step.held],
        "choices": [_choice(c) for c in step.choices],
        "note": step.note,
    }


def _choice(choice: Choice) -> Json:
    return {"name": choice.name, "value": choice.value}


def _place(span: Span) -> Json:
    line, column = span.source.line_column(span.start)
    end_line, end_column = span.source.line_column(span.end)
    return {
        "path": span.source.name,
        "line": line,
        "column": column,
        "end_line": end_line,
        "end_column": end_column,
    }


def first_line(span: Span) -> str:
    """What is written at a place: its first line."""
    return span.text.splitlines()[0] if span.text else ""


def _diagnostic(diagnostic: Diagnostic) -> Json:
    return {
        "code": str(diagnostic.code),
        "message": diagnostic.message,
        "place": _place(diagnostic.span) if diagnostic.span else None,
        "notes": [{"message": n.message, "place": _place(n.span) if n.span else None} for n in diagnostic.notes],
        "help": diagnostic.help,
    }
