"""A run as SARIF 2.1.0 (OASIS standard, 27 March 2020): every obligation is a result.

A violation has a code flow with one thread flow for each context, in the order of execution, with IRQL and held locks
as state. A proof is a result of kind `pass` and says how far it goes. What is unknown is `open`. Numbers in brackets
are sections of the standard.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, TypeAlias, assert_never
from urllib.parse import quote

from modelcheck.diagnostics import Diagnostic
from modelcheck.report.explain import page, plain, title
from modelcheck.report.machine import Whole, headline, told, troubles
from modelcheck.report.outcome import Exit, Outcome
from modelcheck.report.run import Lane, Moment, Run, quiet_about, run_of
from modelcheck.report.shape import shape
from modelcheck.report.words import clean, held_words, level_name
from modelcheck.source import Span
from modelcheck.verdict import Proved, Report, Result, Undecided, Violated

Json: TypeAlias = dict[str, Any]

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT = "modelcheckRunShape/v1"
_SAID = {
    Exit.PROVED: "everything asked for was checked and proved",
    Exit.VIOLATED: "something is violated",
    Exit.WRONG_INPUT: "wrong usage, configuration or model",
    Exit.UNKNOWN: "nothing violated, but something unknown",
    Exit.INTERNAL_ERROR: "internal error",
    Exit.NOTHING_CHECKED: "nothing was checked",
}


def dumps(whole: Whole) -> str:
    """The run as JSON text, ending with a newline."""
    rules = _rules(whole.outcomes)
    numbers = {code: number for number, code in enumerate(rules)}
    run = {
        "tool": {
            "driver": {
                "name": "modelcheck",
                "version": whole.version,
                "semanticVersion": whole.version,
                "rules": [_rule(code) for code in rules],
            }
        },
        "invocations": [_invocation(whole)],
        "columnKind": "unicodeCodePoints",
        "results": [result for outcome in whole.outcomes for result in _results(outcome, numbers, whole)],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _rules(outcomes: Iterable[Outcome]) -> list[str]:
    """The codes that occur, in order."""
    found = set()
    for outcome in outcomes:
        found |= {str(d.code) for d in outcome.rejected}
        if outcome.report:
            found |= {str(r.obligation.code) for r in outcome.report.results}
            found |= {str(d.code) for d in outcome.report.warnings}
    return sorted(found)


def _rule(code: str) -> Json:
    found = page(code)
    rule: Json = {"id": code, "shortDescription": {"text": title(code)}}
    if found:
        rule["help"] = {"text": plain(found.text), "markdown": found.text}
    if code.startswith("W"):
        rule["defaultConfiguration"] = {"level": "note"}
    else:
        rule["defaultConfiguration"] = {"level": "error"}
    return rule


def _invocation(whole: Whole) -> Json:
    """[3.20] `executionSuccessful` is false where modelcheck itself failed or could not begin."""
    notes = [
        {"level": "error", "message": {"text": f"{clean(outcome.path)}: {text}"}, "locations": [_file(outcome.path)]}
        for outcome, text in troubles(whole.outcomes)
    ]
    if not whole.outcomes:
        notes.append({"level": "error", "message": {"text": "nothing was checked: there is no model"}})
    notes += [{"level": "note", "message": {"text": remark}} for remark in whole.remarks]
    return {
        "executionSuccessful": whole.exit_status in (Exit.PROVED, Exit.VIOLATED, Exit.UNKNOWN),
        "exitCode": int(whole.exit_status),
        "exitCodeDescription": _SAID.get(whole.exit_status, "interrupted"),
        "toolExecutionNotifications": notes,
    }


# ---- results ----


def _results(outcome: Outcome, rules: dict[str, int], whole: Whole) -> Iterable[Json]:
    if not outcome.only_imported:
        yield from (_diagnostic(d, outcome.path, rules) for d in outcome.rejected)
    report = outcome.report
    if report is None:
        return
    digest = _digest(report)
    for result in report.results:
        made = _result(result, rules, digest, whole.solver)
        if isinstance(result.verdict, Violated):
            made["codeFlows"] = [_code_flow(run_of(result.verdict.trace, quiet_about(report, result)))]
            made["partialFingerprints"] = {FINGERPRINT: shape(result.verdict.trace)}
        if result in outcome.known:
            made["suppressions"] = [{"kind": "external", "status": "accepted", "justification": "in the baseline"}]
        yield made
    yield from (_diagnostic(d, outcome.path, rules) for d in report.warnings)


def _digest(report: Report) -> str:
    return hashlib.sha256(report.certificate.smt.encode("utf-8")).hexdigest() if report.certificate else ""


def _result(result: Result, rules: dict[str, int], digest: str, solver: str) -> Json:
    obligation = result.obligation
    return {
        "ruleId": str(obligation.code),
        "ruleIndex": rules[str(obligation.code)],
        **_verdict(result, digest, solver),
        "message": {"text": _message(result)},
        "locations": [_location(obligation.span, obligation.routine)],
    }


def _message(result: Result) -> str:
    obligation = result.obligation
    about = f" ({clean(obligation.subject)})" if obligation.subject else ""
    said = told(result)
    return f"{headline(result)}{about}.{f' {said[0].upper()}{said[1:]}.' if said else ''}"


def _verdict(result: Result, digest: str, solver: str) -> Json:
    """[3.27.9, 3.27.10] Only what fails has a level."""
    scenario = result.obligation.scenario
    world = {"scenario": scenario} if scenario else {}
    match result.verdict:
        case Proved(certificate, unreachable):
            strength: Json = {
                "strength": "unbounded",
                "contexts": "those of the scenario" if scenario else "any number",
                "evidence": certificate,
                "unreachable": unreachable,
                "certifiedBy": solver,
            }
            if digest:
                strength["certificateSha256"] = digest
            return {"kind": "pass", "level": "none", "properties": {**world, **strength}}
        case Violated(_, replayed):
            return {"kind": "fail", "level": "error", "properties": {**world, "replayed": replayed}}
        case Undecided(reason, reached):
            said = {"reason": reason, "reached": reached}
            return {"kind": "open", "level": "none", "properties": {**world, **said}}
        case _:
            assert_never(result.verdict)


def _diagnostic(diagnostic: Diagnostic, path: str, rules: dict[str, int]) -> Json:
    help_ = f" {clean(diagnostic.help)}." if diagnostic.help else ""
    made: Json = {
        "ruleId": str(diagnostic.code),
        "ruleIndex": rules[str(diagnostic.code)],
        "kind": "fail",
        "level": "error" if diagnostic.code.is_error else "note",
        "message": {"text": f"{clean(diagnostic.message)}.{help_}"},
        "locations": [_location(diagnostic.span) if diagnostic.span else _file(path)],
    }
    related = [
        {**_location(note.span), "message": {"text": clean(note.message)}} for note in diagnostic.notes if note.span
    ]
    if related:
        made["relatedLocations"] = related
    return made


# ---- runs ----


def _code_flow(run: Run) -> Json:
    """[3.36] The contexts of a run that take a step, each with its own; `executionOrder` counts through all."""
    message = "; ".join(f"{run.lanes[b.wait.actor].name} {b.words}" for b in run.blocked)
    acting = {moment.lane for moment in run.moments}
    lanes = [(number, lane) for number, lane in enumerate(run.lanes) if number in acting]
    flow: Json = {"threadFlows": [_thread_flow(lane, number, run) for number, lane in lanes]}
    if message:
        flow["message"] = {"text": message}
    return flow


def _thread_flow(lane: Lane, number: int, run: Run) -> Json:
    """[3.37] One context."""
    own = [moment for moment in run.moments if moment.lane == number]
    state = {"held": {"text": "nothing"}}
    if lane.irql is not None:
        state["irql"] = {"text": level_name(lane.irql)}
    if lane.processor is not None:
        state["processor"] = {"text": str(lane.processor)}
    if lane.start:
        state["start"] = {"text": "; ".join(lane.start)}
    return {
        "id": f"{number}",
        "message": {"text": lane.title or "declaration"},
        "initialState": state,
        "locations": [_step(moment, moment.number in run.bad) for moment in own],
    }


def _step(moment: Moment, bad: bool) -> Json:
    step = moment.step
    said = [moment.text, *moment.remarks]
    if moment.halt:
        said.append(moment.halt)
    return {
        "location": {**_location(step.span, step.routine), "message": {"text": "; ".join(said) or "here"}},
        "nestingLevel": step.depth,
        "executionOrder": moment.number,
        "importance": "essential" if bad else "important",
        "state": {
            "irql": {"text": level_name(step.irql)},
            "held": {"text": ", ".join(held_words(*hold) for hold in step.held) or "nothing"},
        },
    }


# ---- places ----


def uri(name: str) -> str:
    """A path as a URI: relative ones stay relative. [3.4.4]"""
    path = PurePath(name)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _file(name: str) -> Json:
    return {"physicalLocation": {"artifactLocation": {"uri": uri(name)}}}


def _location(span: Span, routine: str = "") -> Json:
    """[3.30] Lines and columns count from 1; the end is the first character that is not part of it."""
    end_line, end_column = span.source.line_column(span.end)
    place: Json = {
        "physicalLocation": {
            "artifactLocation": {"uri": uri(span.source.name)},
            "region": {
                "startLine": span.line,
                "startColumn": span.column,
                "endLine": end_line,
                "endColumn": end_column,
            },
        }
    }
    if routine:
        place["logicalLocations"] = [{"name": clean(routine), "kind": "function"}]
    return place
