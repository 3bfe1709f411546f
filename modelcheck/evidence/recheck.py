"""Checks the proofs of a folder again: other code, another solver (cvc5), nothing taken from the engines.

For each `NAME.json` with its `NAME.smt2`: the model is read anew and must be the one the proofs are for; every
obligation the model has must be in the report's list; every one claimed proved must be covered by an invariant; the
queries that the invariants call for are made again and must be, to the letter, those of the script; cvc5 must answer
unsat to each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelcheck.check import check
from modelcheck.devices import MOST
from modelcheck.diagnostics import Rejected
from modelcheck.evidence.certify import script
from modelcheck.evidence.conditions import Pool, conditions, formula_conditions, life_conditions, start_conditions
from modelcheck.evidence.manifest import (
    FORMAT,
    Malformed,
    describe,
    digest,
    names_of,
    read_arrivals,
    read_formulas,
    read_invariants,
    read_question,
    read_round,
    read_splits,
    sources,
)
from modelcheck.evidence.meetings import Grounds
from modelcheck.evidence.meetings import conditions as meeting_conditions
from modelcheck.invariant import Invariant
from modelcheck.lower import Lowered, lower
from modelcheck.lower.closed import lower_scenarios
from modelcheck.mutual.positions import facts
from modelcheck.mutual.questions import Question, Questions
from modelcheck.mutual.situation import Situation
from modelcheck.record import dataclass
from modelcheck.resolve import resolve
from modelcheck.verdict import MUTUAL, Property

MILLISECONDS = 60_000
"""For each query; one that takes longer is not unsat."""


@dataclass(frozen=True, slots=True)
class Rechecked:
    """What became of one certificate: `problem` is "" when all of it holds. `queries` were answered unsat by
    `solver`."""

    name: str
    problem: str
    proved: int = 0
    queries: int = 0
    solver: str = ""

    def __str__(self) -> str:
        if self.problem:
            return f"{self.name}: refused: {self.problem}"
        return f"{self.name}: {self.proved} proofs hold, {self.queries} queries unsat in {self.solver}"


def recheck(folder: Path) -> list[Rechecked]:
    """Every certificate of a folder, sorted by name. A script without its manifest is refused too."""
    stems = sorted({p.stem for p in folder.glob("*.json")} | {p.stem for p in folder.glob("*.smt2")})
    return [_one(folder, stem) for stem in stems]


def _one(folder: Path, stem: str) -> Rechecked:
    try:
        manifest = json.loads((folder / f"{stem}.json").read_text(encoding="utf-8"))
        text = (folder / f"{stem}.smt2").read_text(encoding="utf-8")
        return _check(stem, manifest, text)
    except FileNotFoundError as error:
        return Rechecked(stem, f"{Path(str(error.filename)).name} is missing")
    except (OSError, UnicodeDecodeError) as error:
        return Rechecked(stem, f"it cannot be read ({error})")
    except json.JSONDecodeError as error:
        return Rechecked(stem, f"the manifest is not JSON ({error})")
    except Malformed as error:
        return Rechecked(stem, str(error))


def _check(stem: str, manifest: Any, text: str) -> Rechecked:
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise Malformed("the manifest has another format")
    if digest(text) != manifest.get("script_sha256"):
        raise Malformed("the script was changed after it was written")
    lowered = _model(manifest)
    claimed = _claims(manifest, lowered)
    invariants = read_invariants(manifest, lowered)
    formulas = read_formulas(manifest, lowered)
    covered = {n for proofs in (invariants, formulas) for invariant in proofs for n in invariant.obligations}
    mutual = sorted(n for n in claimed if lowered.obligations[n].code in MUTUAL)
    for number in sorted(claimed - set(mutual)):
        if number not in covered and not lowered.facts.get(number, False):
            raise Malformed(f"{lowered.obligations[number].id} is claimed proved, and no invariant covers it")
        if lowered.ledger.timing.get(number, number) not in covered and number not in lowered.facts:
            raise Malformed(f"{lowered.obligations[number].id} is claimed proved, and not all costs are known")
    pool = Pool()
    for number, invariant in enumerate(invariants):
        conditions(invariant, number, lowered.roots, pool)
    for number, formula in enumerate(formulas):
        formula_conditions(formula, -1 - number, lowered.roots, pool)
    life_conditions(invariants, formulas, lowered.roots, pool)
    if "meetings" in manifest:
        _meetings(manifest, lowered, invariants, claimed, pool)
    elif mutual:
        raise Malformed(f"nothing proves {lowered.obligations[mutual[0]].id}")
    proved = len(claimed) + _scenarios(manifest, lowered, pool)
    if script(pool) != text:
        raise Malformed("the script is not the one that the model and its invariants call for")
    solver, wrong = ask(text)
    if wrong is not None:
        raise Malformed(f"{solver} does not find query {wrong} unsatisfiable")
    return Rechecked(stem, "", proved, len(pool.queries), solver)


def _meetings(
    manifest: Mapping[str, Any], lowered: Lowered, invariants: list[Invariant], claimed: set[int], pool: Pool
) -> None:
    """Adds the queries on which the proofs about several contexts rest."""
    entry = manifest["meetings"]
    names = names_of(lowered)
    never: dict[Question, bool] = {}
    try:
        base = {r: invariants[int(n)] for r, n in zip(lowered.roots, entry["base"], strict=True)}
        splits = read_splits(entry)
        used = list(dict.fromkeys(base.values()))
        for asked in entry["rounds"]:
            answers, answered = _round(asked, names, lowered, pool)
            never |= answers
            used += answered
        proposals = iter(read_arrivals(entry))
        facts_, cases = facts(base, lowered.roots, lambda case: next(proposals))
        if next(proposals, None) is not None:
            raise ValueError("there are arrivals that nothing asks for")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, AssertionError, StopIteration) as error:
        raise Malformed(f"what is said of several contexts does not fit ({type(error).__name__}: {error})") from None
    single = frozenset(n for n in claimed if lowered.obligations[n].code not in MUTUAL)
    grounds = Grounds(lowered, Situation(base, lowered, facts_), cases, never, single, splits)
    meeting_conditions(grounds, [n for n in claimed if lowered.obligations[n].code in MUTUAL], pool)
    start_conditions(used, invariants, lowered.roots, pool)


def _round(
    entry: Mapping[str, Any], names: Any, lowered: Lowered, pool: Pool
) -> tuple[dict[Question, bool], list[Invariant]]:
    """The questions of a round, with whether the invariants given for them show that the state is never met; and those
    invariants."""
    questions = [read_question(one, names) for one in entry["questions"]]
    inserted = Questions(lowered)
    numbers = inserted.insert(questions)
    try:
        invariants = read_round(entry, names, len(lowered.obligations))
        asked = Pool()
        for number, invariant in enumerate(invariants):
            conditions(invariant, number, invariant.roots, asked)
    finally:
        inserted.remove()
    covered = {n for invariant in invariants for n in invariant.obligations}
    found: dict[Question, bool] = {}
    for question, number, never in zip(questions, numbers, entry["never"], strict=True):
        alone = all(question.root in i.roots for i in invariants if number in i.obligations)
        if never and (number not in covered or not alone):
            raise Malformed("a state is said never to be met, and nothing shows it")
        found[question] = bool(never)
    for query in asked.queries:
        pool.add(query, -1)
    return found, invariants


def _scenarios(manifest: Mapping[str, Any], lowered: Lowered, pool: Pool) -> int:
    """Adds the queries on which the proofs about scenarios rest; how many obligations of them are claimed proved.

    The states of a scenario are searched again: what each step does is asked of the other solver, that they are all is
    checked by the rules of section 7. What is claimed proved must come out of them as proved.
    """
    entries = [entry for entry in manifest["obligations"] if "scenario" in entry]
    if not entries and not lowered.program.scenarios:
        return 0
    from modelcheck.engines.scenario import Kept, solve
    from modelcheck.evidence.closed import conditions as closed_conditions
    from modelcheck.evidence.closed import gap

    claimed = {
        json.dumps({k: v for k, v in entry.items() if k != "verdict"}, sort_keys=True): entry for entry in entries
    }
    listed, proved = 0, 0
    for closed in lower_scenarios(lowered.program):
        solved, made = solve(closed), Pool()
        if any(isinstance(decision, Kept) for decision in solved.decisions.values()):
            trouble = gap(solved)
            closed_conditions(solved, 0, made)
            if trouble:
                raise Malformed(f"the states of the scenario `{closed.name}` are not all there are: {trouble}")
        for query in made.queries:
            pool.add(query, -1)
        for number in closed.listed:
            entry = claimed.get(json.dumps(describe(closed.obligations[number]), sort_keys=True))
            if entry is None:
                raise Malformed(f"the report leaves out {closed.obligations[number].id}")
            listed += 1
            if entry.get("verdict") == "proved":
                proved += 1
                if not isinstance(solved.decisions[number], Kept):
                    raise Malformed(f"nothing proves {closed.obligations[number].id}")
    if listed != len(entries):
        raise Malformed("the report lists obligations of scenarios that the model does not have")
    return proved


def _model(manifest: Mapping[str, Any]) -> Lowered:
    """The model as it is now, which must be the one the manifest speaks of."""
    path = Path(str(manifest.get("model", "")))
    try:
        program = resolve(path)
    except Rejected as rejected:
        raise Malformed(f"the model {path} cannot be read: {rejected.diagnostics[0].message}") from None
    if any(d.code.is_error for d in check(program)):
        raise Malformed(f"the model {path} has errors")
    count = manifest.get("instances")
    if not isinstance(count, int) or not 1 <= count <= MOST:
        raise Malformed("the manifest does not say how many instances of devices are told apart")
    lowered = lower(program, count)
    if sources(lowered) != manifest.get("sources"):
        raise Malformed(f"it is for another version of {path} or of what that imports")
    return lowered


def _claims(manifest: Mapping[str, Any], lowered: Lowered) -> set[int]:
    """The obligations claimed proved; the list must have every obligation of the model exactly once."""
    listed = manifest.get("obligations")
    if not isinstance(listed, list):
        raise Malformed("the manifest lists no obligations")
    left: dict[str, list[int]] = {}
    meetings = manifest.get("meetings")
    strict = isinstance(meetings, dict) and meetings.get("strict") is True
    for number, obligation in enumerate(lowered.obligations):
        if number not in lowered.questions and (strict or obligation.code is not Property.D04):
            left.setdefault(json.dumps(describe(obligation), sort_keys=True), []).append(number)
    claimed: set[int] = set()
    for entry in listed:
        if not isinstance(entry, dict):
            raise Malformed("the manifest lists no obligations")
        if "scenario" in entry:
            continue
        name = json.dumps({k: v for k, v in entry.items() if k != "verdict"}, sort_keys=True)
        numbers = left.get(name)
        if not numbers:
            raise Malformed(f"the model has no such obligation: {name}")
        number = numbers.pop()
        if entry.get("verdict") == "proved":
            claimed.add(number)
    missing = [n for numbers in left.values() for n in numbers]
    if missing:
        raise Malformed(f"the report leaves out {lowered.obligations[min(missing)].id}")
    return claimed


def ask(text: str) -> tuple[str, int | None]:
    """Runs an SMT-LIB script in cvc5; the name of the solver and the first query that is not unsat.

    Raises:
        Malformed: cvc5 is not installed, or does not understand the script.
    """
    try:
        import cvc5
    except ImportError:
        raise Malformed("cvc5 is not installed: pip install 'modelcheck[recheck]'") from None
    manager = cvc5.TermManager()
    solver = cvc5.Solver(manager)
    solver.setOption("incremental", "true")
    solver.setOption("tlimit-per", str(MILLISECONDS))
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, text, "certificate")
    symbols = parser.getSymbolManager()
    name = f"cvc5 {cvc5.__version__}"
    query = -1
    try:
        while not (command := parser.nextCommand()).isNull():
            said = str(command.invoke(solver, symbols)).strip()
            if command.getCommandName() == "check-sat":
                query += 1
                if said != "unsat":
                    return name, query
            elif said.startswith("(error"):
                raise Malformed(f"cvc5: {said}")
    except RuntimeError as error:
        raise Malformed(f"cvc5: {error}") from None
    if query + 1 != text.count("(check-sat)"):
        return name, query + 1  # a query that was never answered is not unsat
    return name, None
