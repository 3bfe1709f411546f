"""`python -m tests.conformance FILE.json`: translates, verifies and compares the cases of a file.

Prints a line for each property that comes out otherwise than the case says, and last `N passed, M failed`, counting
properties. Exit status 0 if none failed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelcheck import verify
from modelcheck.diagnostics import Rejected
from modelcheck.pipeline import Options
from modelcheck.verdict import MUTUAL, Property, Report
from tests.conformance.notation import Case, Claim, Malformed, read_case, read_claims
from tests.conformance.operations import Inexpressible
from tests.conformance.properties import Answer, Fails, Holds, NotKnown, Rule, answer, rules
from tests.conformance.translate import DriverModel, Question, question, translate

LIMIT = 60
"""Seconds for the claims that share a model: those that take longer settle nothing and do not hold up the others."""
ROOMS = (1, 4, 16)
"""How far to count, first and after that: in steps of the case."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out for one property."""

    case: str
    claim: Claim
    answer: Answer

    @property
    def passed(self) -> bool:
        return isinstance(self.answer, Holds if self.claim.verdict else Fails)

    def __str__(self) -> str:
        expected = "holds" if self.claim.verdict else "fails"
        match self.answer:
            case Holds():
                return f"{self.case}: {self.claim}: expected {expected}, got holds: every obligation is proved"
            case Fails(where):
                return f"{self.case}: {self.claim}: expected {expected}, got fails: {where}"
            case NotKnown(reason):
                return f"{self.case}: {self.claim}: expected {expected}, got unknown: {reason}"


def run_case(source: Any) -> tuple[Outcome, ...]:
    """The outcome of every property of one case, in its order; of what is no case, none."""
    if not isinstance(source, Mapping):
        return ()
    name = str(source.get("id", "?"))
    claims = read_claims(source)
    try:
        case = read_case(source)
    except (Malformed, KeyError, TypeError, ValueError, AttributeError) as trouble:
        return _not_known(name, claims, f"cannot be expressed: {type(trouble).__name__}: {trouble}")
    answers: dict[Claim, Answer] = {}
    for asked in sorted(set(map(question, claims))):
        answers |= _decide(case, asked, [c for c in claims if question(c) == asked])
    return tuple(Outcome(case.id, claim, answers[claim]) for claim in claims)


def _options(asked: Question, claims: list[Claim], model: DriverModel) -> Options:
    """Only what these claims need: nothing else is asked, least of all what any number of contexts may do."""
    if asked.order:
        return Options(strict=True, only=frozenset({Property.D04}))
    if asked.together:
        return Options()
    watched = (Rule((Property.C02,)),)
    codes = frozenset(code for claim in claims for rule in rules(claim, model) or watched for code in rule.codes)
    return Options(only=(codes or frozenset(Property)) - MUTUAL)


def _decide(case: Case, asked: Question, claims: list[Claim]) -> dict[Claim, Answer]:
    """The answers to claims that share a model. What depends on counting further than its variables do is asked again
    with more room."""
    answers: dict[Claim, Answer] = {}
    trouble = ""
    try:
        with time_limit(LIMIT):
            for room in ROOMS:
                model = translate(case, asked, room)
                report = verify_text(model.text, _options(asked, claims, model))
                answers |= {claim: answer(claim, model, report) for claim in claims if not _settled(answers, claim)}
                if not model.counts or all(_settled(answers, claim) for claim in claims):
                    break
    except TimeoutError:
        if len(claims) > 1:  # one that takes too long is no reason to leave the others
            return {claim: found for one in claims for claim, found in _decide(case, asked, [one]).items()}
        trouble = f"no answer in {LIMIT} s"
    except Inexpressible as reason:
        trouble = f"cannot be expressed: {reason}"
    except Rejected as rejected:
        trouble = f"the model is rejected: {rejected}"
    except Exception as reason:  # whatever it is, it settles nothing, and the other properties go on
        trouble = f"{type(reason).__name__}: {reason}"
    return dict.fromkeys(claims, NotKnown(trouble)) | answers


def _settled(answers: Mapping[Claim, Answer], claim: Claim) -> bool:
    return isinstance(answers.get(claim), Holds | Fails)


def _not_known(name: str, claims: tuple[Claim, ...], reason: str) -> tuple[Outcome, ...]:
    return tuple(Outcome(name, c, NotKnown(reason)) for c in claims)


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raises TimeoutError in the block after that time, where the system has interval timers."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def expire(number: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def verify_text(text: str, options: Options | None = None) -> Report:
    """The report on a model that is given as text. Raises Rejected."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.drvm"
        path.write_text(text, encoding="utf-8")
        return verify(path, options or Options())


def run_file(path: Path, jobs: int) -> list[Outcome]:
    """The outcomes of all cases of a file, in its order."""
    cases = _cases(path)
    if jobs == 1:
        return [outcome for case in cases for outcome in run_case(case)]
    with ProcessPoolExecutor(jobs) as pool:
        return [outcome for found in pool.map(run_case, cases) for outcome in found]


def _cases(path: Path) -> list[Any]:
    """The cases of a file: a list of them, an object with such a list as `cases`, or one case."""
    cases = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(cases, dict):
        cases = cases.get("cases", [cases])
    return list(cases)


def main(arguments: list[str] | None = None) -> int:
    """Runs the files; 0 if no property failed, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a processor)")
    parser.add_argument("--model", metavar="ID", help="print the driver models of one case and stop")
    options = parser.parse_args(arguments)
    if options.model:
        return _print_model(options.files, options.model)
    outcomes = [outcome for path in options.files for outcome in run_file(path, options.jobs)]
    for outcome in outcomes:
        if not outcome.passed:
            print(outcome)
    failed = sum(not outcome.passed for outcome in outcomes)
    print(f"{len(outcomes) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _print_model(files: list[Path], name: str) -> int:
    for path in files:
        for source in _cases(path):
            if isinstance(source, Mapping) and source.get("id") == name:
                case = read_case(source)
                questions = set(map(question, case.claims)) or {Question()}
                print("\n".join(translate(case, asked).text for asked in sorted(questions)), end="")
                return 0
    print(f"no case `{name}`", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
