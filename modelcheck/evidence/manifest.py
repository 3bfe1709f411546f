"""Invariants as JSON beside the SMT-LIB script: enough to make every query again from the model, by other code.

Packed states are written as they are (hexadecimal): their layout follows from the model and the list of variables
followed. Graphs, roots and cells are named by their place in the lowered model, which is the same for the same text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from modelcheck.devices import instances
from modelcheck.invariant import BlockInvariant, FormulaInvariant, Invariant, Lives, Table
from modelcheck.ir import Cell, Graph, Root
from modelcheck.layout import Layout, layouts
from modelcheck.lower import Lowered, every_graph
from modelcheck.mutual.positions import Arrival, Site, sites
from modelcheck.mutual.questions import Place, Question, Test
from modelcheck.mutual.situation import Candidates, Splits
from modelcheck.record import dataclass
from modelcheck.verdict import Obligation

FORMAT = 1


class Malformed(Exception):
    """The manifest does not fit the model or is no manifest; the message says why."""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sources(lowered: Lowered) -> list[dict[str, str]]:
    """Name and hash of every file the model is made of."""
    return [{"name": s.name, "sha256": digest(s.text)} for s in lowered.program.sources]


def ledger(lowered: Lowered) -> str:
    """A hash of all obligations in the order of their numbers, by which invariants refer to them."""
    return digest(json.dumps([describe(o) for o in lowered.obligations[: lowered.own]], sort_keys=True))


def describe(obligation: Obligation) -> dict[str, Any]:
    """An obligation as the manifest names it."""
    return {
        "code": obligation.code.value,
        "routine": obligation.routine,
        "line": obligation.span.line,
        "column": obligation.span.column,
        "subject": obligation.subject,
        "why": obligation.why,
        **({"scenario": obligation.scenario} if obligation.scenario else {}),
    }


def write(
    lowered: Lowered,
    invariants: Sequence[Invariant],
    formulas: Sequence[FormulaInvariant | BlockInvariant],
    claims: Sequence[tuple[Obligation, str]],
    path: str,
    script: str,
    version: str,
    meetings: Written | None = None,
) -> str:
    """The manifest. `claims` are the obligations of the report, each with its verdict in a word."""
    names = _Names(lowered)
    listed = [{**describe(obligation), "verdict": verdict} for obligation, verdict in claims]
    content = {
        "format": FORMAT,
        "modelcheck": version,
        "model": path,
        "sources": sources(lowered),
        "instances": instances(lowered.program),
        "script_sha256": digest(script),
        "obligations": listed,
        "ledger_sha256": ledger(lowered),
        "invariants": [_invariant(invariant, names) for invariant in invariants],
        "formulas": [_formula(formula, names) for formula in formulas],
    }
    if meetings is not None:
        content["meetings"] = _meetings(meetings, names)
    return json.dumps(content, indent=None, separators=(",", ":"), sort_keys=True) + "\n"


@dataclass(frozen=True, slots=True)
class Written:
    """What the proofs about several contexts rest on: for each root the number of an invariant, the arrivals of each
    operation at which contexts meet (in the order they are read in), the questions asked in rounds with whether the
    state is never met and the invariants that say so, which states were told apart, and whether D04 was asked for."""

    base: list[int]
    arrivals: list[tuple[Arrival, ...]]
    rounds: list[tuple[list[Question], list[bool], list[Invariant]]]
    splits: Splits
    strict: bool


class _Names:
    """Numbers for the graphs, roots and cells of a lowered model."""

    def __init__(self, lowered: Lowered) -> None:
        self.roots = lowered.roots
        self.graphs = every_graph([root.graph for root in lowered.roots])
        self.root_number = {root: n for n, root in enumerate(self.roots)}
        self.graph_number = {graph: n for n, graph in enumerate(self.graphs)}
        self.cell_number: dict[Cell, list[Any]] = {}
        for number, root in enumerate(self.roots):
            for name, cell in root.environment.cells.items():
                self.cell_number.setdefault(cell, ["root", number, name])
        for number, graph in enumerate(self.graphs):
            for index, cell in enumerate(graph.locals):
                self.cell_number.setdefault(cell, ["graph", number, index])

    def cell(self, name: Sequence[Any]) -> Cell:
        kind, number, where = name
        if kind == "root":
            root: Root = self.roots[number]
            return root.environment.cells[where]
        graph: Graph = self.graphs[number]
        cell: Cell = graph.locals[where]
        return cell


def _invariant(invariant: Invariant, names: _Names) -> dict[str, Any]:
    numbers = {table: n for n, table in enumerate(invariant.tables)}
    return {
        "roots": [names.root_number[root] for root in invariant.roots],
        "loose": invariant.loose,
        "tracked": sorted((names.cell_number[c] for c in invariant.tracked), key=repr),
        "obligations": sorted(invariant.obligations),
        "lives": [
            [names.root_number[r], {k: list(v) for k, v in lives.items()}] for r, lives in invariant.lives.items()
        ],
        "starts": [[names.root_number[r], [numbers[t] for t in tables]] for r, tables in invariant.starts.items()],
        "tables": [
            {
                "graph": names.graph_number[table.graph],
                "states": [[[f"{k:x}", f"{s:x}"] for k, s in states.items()] for states in table.states],
                "calls": [[edge, f"{key:x}", numbers[callee]] for (edge, key), callee in table.calls.items()],
            }
            for table in invariant.tables
        ],
    }


def _meetings(meetings: Written, names: _Names) -> dict[str, Any]:
    return {
        "base": meetings.base,
        "arrivals": [[[index, _constraints(values)] for index, values in case] for case in meetings.arrivals],
        "rounds": [
            {
                "questions": [_question(question, names) for question in questions],
                "never": never,
                "invariants": [_invariant(invariant, names) for invariant in invariants],
            }
            for questions, never, invariants in meetings.rounds
        ],
        "splits": [
            [_candidates(c), [[list(map(list, tests)), s] for tests, s in made]] for c, made in meetings.splits.items()
        ],
        "strict": meetings.strict,
    }


def _constraints(values: Sequence[Sequence[int] | None]) -> list[list[int] | None]:
    return [None if v is None else list(v) for v in values]


def _question(question: Question, names: _Names) -> dict[str, Any]:
    return {
        "root": names.root_number[question.root],
        "places": [[names.graph_number[p.graph], p.edge, p.index] for p in question.places],
        "tests": [[names.cell_number[t.cell], t.value] for t in question.tests],
    }


def read_question(entry: Mapping[str, Any], names: _Names) -> Question:
    """A question of a manifest. Raises KeyError, IndexError, TypeError, ValueError where it fits nothing."""
    places = tuple(Place(names.graphs[graph], int(edge), int(index)) for graph, edge, index in entry["places"])
    for place in places:
        edge = place.graph.edges[place.edge]
        if place.index >= 0 and (edge.operation is None or place.index >= len(sites(edge.operation))):
            raise ValueError("a question stands at no place")
    tests = tuple(Test(names.cell(name), int(value)) for name, value in entry["tests"])
    return Question(names.roots[entry["root"]], places, tests)


def read_arrivals(entry: Mapping[str, Any]) -> list[tuple[Arrival, ...]]:
    """The arrivals of a manifest, in their order."""
    return [
        tuple((int(index), tuple(None if v is None else tuple(map(int, v)) for v in values)) for index, values in case)
        for case in entry["arrivals"]
    ]


def _candidates(candidates: Candidates) -> list[Any]:
    sites = [[site.graph, site.edge, site.index] for site in candidates.sites]
    return [candidates.root, sites, candidates.irql, list(map(list, candidates.held))]


def read_splits(entry: Mapping[str, Any]) -> Splits:
    """Which states were told apart, by a manifest."""
    found: Splits = {}
    for (root, spots, irql, held), made in entry["splits"]:
        places = tuple(Site(int(graph), int(edge), int(index)) for graph, edge, index in spots)
        candidates = Candidates(int(root), places, int(irql), tuple((str(lock), int(mask)) for lock, mask in held))
        found[candidates] = [
            (tuple((str(subject), int(value)) for subject, value in tests), str(by)) for tests, by in made
        ]
    return found


def names_of(lowered: Lowered) -> _Names:
    """The numbers by which a manifest names graphs, roots and cells."""
    return _Names(lowered)


def read_round(entry: Mapping[str, Any], names: _Names, count: int) -> list[Invariant]:
    """The invariants of a round of questions."""
    return [_read_one(one, names, count) for one in entry["invariants"]]


def _formula(formula: FormulaInvariant | BlockInvariant, names: _Names) -> dict[str, Any]:
    lives = [[names.root_number[r], {k: list(v) for k, v in lives.items()}] for r, lives in formula.lives.items()]
    if isinstance(formula, BlockInvariant):
        blocks = [
            [names.root_number[root], level, [[cut, list(map(_listed, sets))] for cut, sets in sorted(cuts.items())]]
            for root, level, cuts in formula.parts
        ]
        return {"obligations": sorted(formula.obligations), "lives": lives, "blocks": blocks}
    parts = [[names.root_number[root], list(texts)] for root, texts in formula.parts]
    return {"obligations": sorted(formula.obligations), "lives": lives, "parts": parts}


def _listed(values: Sequence[int]) -> list[int] | dict[str, int]:
    """A wide range by its ends."""
    if isinstance(values, range):
        return {"low": values.start, "high": values.stop - 1}
    return list(values)


def _values(written: Any) -> Sequence[int]:
    if isinstance(written, dict):
        return range(int(written["low"]), int(written["high"]) + 1)
    return tuple(int(v) for v in written)


def _read_formula(entry: Mapping[str, Any], roots: Sequence[Root]) -> FormulaInvariant | BlockInvariant:
    obligations = frozenset(int(n) for n in entry["obligations"])
    lives: dict[Root, Lives] = {roots[n]: {k: tuple(v) for k, v in given.items()} for n, given in entry["lives"]}
    if "blocks" in entry:
        blocks = [
            (roots[n], int(level), {int(cut): tuple(map(_values, sets)) for cut, sets in cuts})
            for n, level, cuts in entry["blocks"]
        ]
        return BlockInvariant(obligations, blocks, lives)
    return FormulaInvariant(obligations, [(roots[n], tuple(map(str, texts))) for n, texts in entry["parts"]], lives)


def read_formulas(content: Mapping[str, Any], lowered: Lowered) -> list[FormulaInvariant | BlockInvariant]:
    """The invariants in formulas of a manifest.

    Raises:
        Malformed: something in it does not exist in the model.
    """
    try:
        return [_read_formula(entry, lowered.roots) for entry in content["formulas"]]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Malformed(f"a formula does not fit the model ({type(error).__name__}: {error})") from None


def read_invariants(content: Mapping[str, Any], lowered: Lowered) -> list[Invariant]:
    """The invariants of a manifest, for the model as it is now.

    Raises:
        Malformed: something in it does not exist in the model.
    """
    names = _Names(lowered)
    if content.get("ledger_sha256") != ledger(lowered):
        raise Malformed("the model has other obligations than those the invariants speak of")
    try:
        return [_read_one(entry, names, len(lowered.obligations)) for entry in content["invariants"]]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Malformed(f"an invariant does not fit the model ({type(error).__name__}: {error})") from None


def _read_one(entry: Mapping[str, Any], names: _Names, count: int) -> Invariant:
    roots: list[Root] = [names.roots[n] for n in entry["roots"]]
    tracked = frozenset(names.cell(name) for name in entry["tracked"])
    loose = entry["loose"]
    if not isinstance(loose, bool):
        raise TypeError("`loose` is neither true nor false")
    shapes = layouts([root.graph for root in roots], tracked, loose)
    tables = [_table(names.graphs[t["graph"]], t["states"], shapes) for t in entry["tables"]]
    for table, written in zip(tables, entry["tables"], strict=True):
        for edge, key, callee in written["calls"]:
            table.calls[int(edge), int(key, 16)] = tables[callee]
    starts = {names.roots[n]: [tables[t] for t in numbers] for n, numbers in entry["starts"]}
    lives: dict[Root, Lives] = {names.roots[n]: {k: tuple(v) for k, v in given.items()} for n, given in entry["lives"]}
    obligations = frozenset(int(n) for n in entry["obligations"])
    if any(not 0 <= n < count for n in obligations):
        raise ValueError("an obligation does not exist")
    if set(starts) != set(roots) or set(lives) != set(roots):
        raise ValueError("a root has no start")
    return Invariant(roots, tracked, shapes, tables, starts, lives, obligations, loose)


def _table(graph: Graph, states: Sequence[Sequence[Sequence[str]]], shapes: Mapping[Graph, Layout]) -> Table:
    return Table(graph, shapes[graph], _states(states, graph), {})


def _states(written: Sequence[Sequence[Sequence[str]]], graph: Graph) -> list[dict[int, int]]:
    if len(written) != graph.size:
        raise ValueError(f"{graph.name} has {graph.size} locations")
    return [{int(key, 16): int(sets, 16) for key, sets in states} for states in written]
