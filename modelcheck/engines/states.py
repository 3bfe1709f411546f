"""States of single contexts, told apart and asked about: which can be met, and by which run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TypeAlias

from modelcheck.engines.analyse import Analysis, Broken, Held, Limits
from modelcheck.engines.arrive import meetings
from modelcheck.lower import Lowered
from modelcheck.mutual.questions import Question, Questions
from modelcheck.mutual.situation import Candidates, Splits, Tests, apart
from modelcheck.record import dataclass
from modelcheck.verdict import Trace

MAX_TOLD = 400
"""How often states are told apart for one driver."""
MAX_WAYS = 1_000
"""States are not told apart by a variable with more values."""
NEVER, PERHAPS = "never", "perhaps"

Confirm: TypeAlias = Callable[[Analysis], frozenset[int]]
"""The questions whose answer "never" is not confirmed by evidence."""


@dataclass(slots=True)
class Round:
    """Questions asked together: their numbers, and what answered them."""

    questions: list[Question]
    numbers: list[int]
    answers: Analysis
    never: list[bool]


class States:
    """What is known of the states in which contexts of a driver meet. `splits`: which were told apart; `rounds`: what
    was asked."""

    def __init__(self, lowered: Lowered, analysis: Analysis, limits: Limits, confirm: Confirm) -> None:
        assert analysis.base is not None
        self.lowered = lowered
        self.analysis = analysis
        self.limits = limits
        self.confirm = confirm
        read = analysis.read
        if read is not None and read[0] is analysis.base:
            _, self.facts, self.cases, self.situation = read
        else:
            self.facts, self.cases, self.situation = meetings(analysis.base, lowered)
        self.roots = lowered.roots
        self.rounds: list[Round] = []
        self.splits: Splits = {}
        self.known: dict[Question, Trace | str] = {}
        """What came of a question: a run that comes there, NEVER, or PERHAPS."""
        self.told = 0
        """How often states were told apart."""

    def live(self, candidates: Candidates) -> list[Tests]:
        """The states of candidates, as far as they are told apart, without those that are never met."""
        return [
            tests
            for tests in apart(self.situation, candidates, self.splits)
            if self.known.get(self.situation.question(candidates, tests)) != NEVER
        ]

    def split(self, candidates: Candidates, tests: Tests, subject: str) -> bool:
        """Tells states apart by one more subject, and asks which of them are ever met; False if they are already."""
        if self.told >= MAX_TOLD or subject in dict(tests) or tests not in self.live(candidates):
            return False
        ways = self.situation.ways(candidates, subject)
        if not 2 <= len(ways) <= MAX_WAYS:
            return False
        self.splits.setdefault(candidates, []).append((tests, subject))
        self.told += 1
        parts = [tuple(sorted((*tests, (subject, way)))) for way in ways]
        self.ask([self.situation.question(candidates, part) for part in parts])
        return True

    def run_to(self, candidates: Candidates, tests: Tests = ()) -> Trace | None:
        """A run that comes to one of the states, if one is known."""
        if not candidates.sites:
            return None
        question = self.situation.question(candidates, tests)
        self.ask([question])
        run = self.known[question]
        return run if isinstance(run, Trace) else None

    def clear(self, states: list[tuple[Candidates, Tests]]) -> bool:
        """Asks for runs to states that are to be met together. True if something new came out of it: that one is never
        met, or that they had to be told apart further, as their runs do not go together."""
        before = self.told
        questions = [self.situation.question(*state) for state in states]
        self.ask(questions)
        if any(self.known[question] == NEVER for question in questions):
            return True
        runs = [self.known[question] for question in questions]
        for (one, run), (other, way) in itertools.combinations(zip(states, runs, strict=True), 2):
            if isinstance(run, Trace) and isinstance(way, Trace):
                for subject in self.at_odds(one, run, other, way):
                    self.split(*one, subject)
                    self.split(*other, subject)
        return self.told > before

    def end_together(self, ends: Iterable[tuple[tuple[Candidates, Tests], Trace]]) -> bool:
        """Whether no two of some runs are at odds."""
        held: dict[str, str] = {}
        values: dict[str, int | None] = {}
        for state, run in ends:
            for lock, mode, _ in run.steps[-1].held:
                if lock in held and "exclusive" in (mode, held[lock]):
                    return False
                held[lock] = mode
            known = self.situation.variables(*state)
            seen = _last_values(run) if known else {}
            if any(values.setdefault(name, seen.get(name)) != seen.get(name) for name in known):
                return False
        return True

    def at_odds(
        self, one: tuple[Candidates, Tests], run: Trace, other: tuple[Candidates, Tests], way: Trace
    ) -> list[str]:
        """What keeps two runs from ending at once: a lock both hold, a variable that has one value."""
        mine = {lock: mode for lock, mode, _ in run.steps[-1].held}
        found = [
            f"hold {lock}" for lock, mode, _ in way.steps[-1].held if lock in mine and "exclusive" in (mode, mine[lock])
        ]
        both = set(self.situation.variables(*one)) & set(self.situation.variables(*other))
        if not both:
            return found
        seen, there = _last_values(run), _last_values(way)
        return found + [name for name in sorted(both) if seen.get(name) != there.get(name)]

    def ask(self, questions: list[Question]) -> None:
        questions = [q for q in dict.fromkeys(questions) if q not in self.known]
        if not questions:
            return
        probes = Questions(self.lowered)
        numbers = probes.insert(questions)
        try:
            answers = self.analysis.answers(questions, numbers)
            doubted = self.confirm(answers)
        finally:
            probes.remove()
        for question, number in zip(questions, numbers, strict=True):
            match answers.decisions[number]:
                case Broken(trace):
                    self.known[question] = trace
                case Held() if number not in doubted:
                    self.known[question] = NEVER
                case _:
                    self.known[question] = PERHAPS
        never = [self.known[question] == NEVER for question in questions]
        self.rounds.append(Round(questions, numbers, answers, never))


def _last_values(run: Trace) -> dict[str, int]:
    """What the run saw last of each shared variable."""
    return {c.name: c.value for c in run.choices}
