"""What a property of a case comes to in a report: which obligations decide it, and what they say together.

A property holds when all its obligations are proved, and fails when one is violated with a trace that replays and is
a run of the case. Where the model has a line that must have an obligation and the report has none for it, nothing is
known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from modelcheck.verdict import Property, Report, Result, Schedule, Trace, Undecided, Violated
from tests.conformance.notation import Claim
from tests.conformance.translate import BEYOND, SCENARIO, DriverModel, Mark, data_name, lock_name, question


@dataclass(frozen=True, slots=True)
class Holds:
    pass


@dataclass(frozen=True, slots=True)
class Fails:
    """`where` shows the first obligation that fails."""

    where: str


@dataclass(frozen=True, slots=True)
class NotKnown:
    reason: str


Answer: TypeAlias = Holds | Fails | NotKnown
Choose: TypeAlias = Callable[[Mark], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """The obligations of one part of a property: those of `codes`, on lines with a mark that `mark` picks (any line if
    None). `everywhere`: every such line must have one; `roots`: each of these routines must have one."""

    codes: tuple[Property, ...]
    mark: Choose | None = None
    everywhere: bool = False
    roots: tuple[str, ...] = ()


def _sort(*sorts: str) -> Choose:
    return lambda mark: mark.sort in sorts


def _watching(claim: Claim) -> Choose:
    return lambda mark: mark.sort == "watch" and mark.claim == str(claim)


WATCHED = (
    "held_at_exit",
    "exits_at",
    "irql_never_above",
    "irql_never_below",
    "no_reinit_while_held",
    "no_shared_to_exclusive_upgrade",
    "no_recursive_try_acquire",
)
"""Properties whose obligations are the clauses and assertions that the translation adds for them."""


def rules(claim: Claim, model: DriverModel) -> tuple[Rule, ...] | None:
    """The obligations that decide a claim; None for a property of another name."""
    p = Property
    watched = Rule((p.C01, p.C02), _watching(claim), everywhere=True)
    table: dict[str, tuple[Rule, ...]] = {
        "no_recursive_acquire": (Rule((p.B01,)), Rule((p.B01,), _sort("acquire"), everywhere=True)),
        "no_unowned_release": (Rule((p.B02,)), Rule((p.B02,), _sort("release"), everywhere=True)),
        "no_lock_held_at_exit": (Rule((p.B03,), roots=model.taking),),
        "irql_preconditions": (
            Rule((p.I01,)),
            Rule((p.I01,), _sort("require"), everywhere=True),
            Rule((p.I04,), _sort("level"), everywhere=True),
        ),
        "irql_restored_at_exit": (Rule((p.I02,), roots=model.roots),),
        "no_irql_drop_while_spinlock_held": (Rule((p.I05,)),),
        "matched_release_api": (Rule((p.B04,)),),
        "release_restores_saved_irql": (Rule((p.I03,)),),
        "init_before_use": (Rule((p.B05,), _sort("acquire", "try")), watched),
        "no_callout_with_spinlock": (Rule((p.I07,), _sort("callout"), everywhere=True),),
        "assert_holds": (Rule((p.C01,), _sort("assert"), everywhere=True),),
        "no_deadlock": (Rule((p.D01, p.D02, p.D03)), Rule((p.D01,), _sort("acquire"), everywhere=True)),
        "no_race": (Rule((p.R03,)),),
        "lock_order_acyclic": (Rule((p.D04,)), Rule((p.D04,), _sort("acquire"), everywhere=True)),
    }
    return (watched,) if claim.name in WATCHED else table.get(claim.name)


def answer(claim: Claim, model: DriverModel, report: Report) -> Answer:
    """What the report says about a claim."""
    world = SCENARIO if question(claim).together else ""
    results = (_of_the_case(r) for r in report.results if r.obligation.scenario == world)
    report = replace(report, results=tuple(results))
    if claim.name == "consistent_lock_state_at_exit":
        return _same_locks_at_exit(claim, model, report)
    parts = rules(claim, model)
    if parts is None:
        return NotKnown(f"no property `{claim.name}`")
    chosen = [r for r in report.results if _about(claim, r) and any(_picks(rule, model, r) for rule in parts)]
    found = together(chosen)
    missing = [gap for rule in parts for gap in _gaps(rule, model, report)]
    return NotKnown(missing[0]) if missing and isinstance(found, Holds) else found


def together(results: Iterable[Result]) -> Answer:
    """One violated: fails. All proved: holds. Else the first reason why not."""
    found: Answer = Holds()
    for result in results:
        match result.verdict:
            case Violated(trace, replayed=True):
                steps = len(trace.steps) if isinstance(trace, Trace) else len(trace.turns)
                return Fails(f"{result.obligation.id} ({result.obligation.why}), {steps} steps")
            case Violated():
                found = NotKnown(f"{result.obligation.id} is violated, but the trace does not replay")
            case Undecided(reason) if isinstance(found, Holds):
                found = NotKnown(f"{result.obligation.id}: {reason}")
            case _:
                pass
    return found


def _of_the_case(result: Result) -> Result:
    """The result; undecided where its trace chooses what a count beyond its range does: perhaps no run of the case."""
    match result.verdict:
        case Violated(Trace(steps=steps)):
            pass
        case Violated(Schedule(turns=turns)):
            steps = tuple(turn.step for turn in turns)
        case _:
            return result
    if any(choice.name == f"uninit {BEYOND}" for step in steps for choice in step.choices):
        return replace(result, verdict=Undecided("it depends on a count that leaves its range"))
    return result


def _marks(model: DriverModel, result: Result) -> tuple[Mark, ...]:
    return model.marks.get(result.obligation.span.line, ())


def _picks(rule: Rule, model: DriverModel, result: Result) -> bool:
    return result.obligation.code in rule.codes and (rule.mark is None or any(map(rule.mark, _marks(model, result))))


def _about(claim: Claim, result: Result) -> bool:
    """Whether the obligation concerns the claim's subject, where the name of the property has one that is a lock."""
    if not claim.subject or claim.name in WATCHED:
        return True
    if claim.name == "no_race":
        return result.obligation.subject == data_name(claim.subject)
    return lock_name(claim.subject) in (result.obligation.subject, result.obligation.subject.split(".")[0])


def _gaps(rule: Rule, model: DriverModel, report: Report) -> list[str]:
    """Lines and roots that should have an obligation of the rule and have none."""
    hits = [r for r in report.results if _picks(rule, model, r)]
    codes = " or ".join(rule.codes)
    gaps = []
    if rule.everywhere and rule.mark is not None:
        seen = {r.obligation.span.line for r in hits}
        marked = [line for line, marks in model.marks.items() if any(map(rule.mark, marks))]
        gaps += [f"line {line} of the model has no obligation {codes}" for line in marked if line not in seen]
    routines = {r.obligation.routine for r in hits}
    gaps += [f"`{root}` has no obligation {codes}" for root in rule.roots if root not in routines]
    return gaps


def _same_locks_at_exit(claim: Claim, model: DriverModel, report: Report) -> Answer:
    """Each lock is held on all ways out of a context or on none: one of two clauses is proved."""
    clauses: dict[tuple[str, str], list[Result]] = {}
    for result in report.results:
        for mark in _marks(model, result):
            if _watching(claim)(mark) and result.obligation.code == Property.C02:
                clauses.setdefault((mark.root, mark.lock), []).append(result)
    wanted = {(m.root, m.lock) for marks in model.marks.values() for m in marks if _watching(claim)(m)}
    found: Answer = Holds()
    for place in sorted(wanted):
        answers = {
            polarity: together(r for r in clauses.get(place, ()) if _polarity(claim, model, r) == polarity)
            for polarity in (True, False)
            if any(_polarity(claim, model, r) == polarity for r in clauses.get(place, ()))
        }
        if len(answers) < 2:
            return NotKnown(f"no obligation C02 for `{place[1]}` in `{place[0]}`")
        if any(isinstance(a, Holds) for a in answers.values()):
            continue
        if all(isinstance(a, Fails) for a in answers.values()):
            return Fails(f"`{place[1]}` is held on one way out of `{place[0]}` and not on another")
        found = next(a for a in answers.values() if isinstance(a, NotKnown))
    return found


def _polarity(claim: Claim, model: DriverModel, result: Result) -> bool:
    return next(m.polarity for m in _marks(model, result) if _watching(claim)(m))
