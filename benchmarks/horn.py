"""The peer: Spacer (Z3's Horn solver) on one root, with large blocks.

One relation for the entry and for each loop head, over the variables that are live there; all that lies between two of
them is one clause. Locations where paths join have variables of their own; that an edge is taken is an implication, as
guards may overlap. Steps are those that modelcheck itself proves from (`modelcheck.system`, `modelcheck.encode`).

Beyer, Cimatti, Griggio, Keremoglu, Sebastiani: Software Model Checking via Large-Block Encoding, FMCAD 2009.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from modelcheck import encode, system
from modelcheck.encode import Asserted, Declared, Defined
from modelcheck.invariant import Lives
from modelcheck.ir import Root, Sort
from modelcheck.system import FlatEdge, System

MEMORY = 8 * 1024**3
"""Bytes of address space for the child."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`verdict`: safe, unsafe or unknown (time or memory ran out); `seconds` of solving alone."""

    verdict: str
    seconds: float


def solve(root: Root, obligations: frozenset[int], lives: Lives, seconds: int) -> Answer:
    """Asks Spacer whether any of the obligations can be broken."""
    request = json.dumps({"text": clauses(root, obligations, lives), "seconds": seconds})
    command = [sys.executable, "-m", "benchmarks.horn"]
    started = time.perf_counter()
    try:
        done = subprocess.run(command, input=request, capture_output=True, text=True, timeout=seconds + 5, check=False)
    except subprocess.TimeoutExpired:
        return Answer("unknown", seconds)
    if done.returncode != 0:
        return Answer("unknown", time.perf_counter() - started)
    answer = json.loads(done.stdout)
    return Answer(answer["verdict"], answer["seconds"])


def clauses(root: Root, obligations: frozenset[int], lives: Lives) -> str:
    """The root as rules of Z3's fixed-point format; `broken` is derivable when an obligation can be broken."""
    system.MAX_EDGES = 10**6  # how large a root may be is no question here
    return _Blocks(System(root, obligations, lives)).text()


@dataclass(slots=True)
class _Clause:
    """The body of a block: `declared` variables, and what holds of them."""

    declared: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    count: int = 0

    def fresh(self, stem: str, sort: str) -> str:
        self.count += 1
        name = f"{stem}_{self.count}"
        self.declared.append(f"(declare-var {name} {sort})")
        return name


class _Blocks:
    def __init__(self, of: System) -> None:
        self.system = of
        self.out: list[list[FlatEdge]] = [[] for _ in range(of.size)]
        for edge in of.edges:
            self.out[edge.source].append(edge)
        self.order = _reverse_postorder(of.entry, self.out)
        rank = {location: number for number, location in enumerate(self.order)}
        heads = {e.target for e in of.edges if e.source in rank and rank[e.target] <= rank[e.source]}
        self.cuts = [location for location in self.order if location == of.entry or location in heads]
        self.live = self._liveness()

    def _liveness(self) -> list[frozenset[int]]:
        """The variables, by number, whose value at each location can matter."""
        of = self.system
        live: list[frozenset[int]] = [frozenset()] * of.size
        effects = [self._effect(edge) for edge in of.edges]
        into: list[list[int]] = [[] for _ in range(of.size)]
        for number, edge in enumerate(of.edges):
            into[edge.target].append(number)
        pending = list(range(of.size))
        while pending:
            location = pending.pop()
            for number in into[location]:
                used, killed = effects[number]
                source = of.edges[number].source
                more = live[source] | used | (live[location] - killed)
                if more != live[source]:
                    live[source] = more
                    pending.append(source)
        return live

    def _effect(self, flat: FlatEdge) -> tuple[frozenset[int], frozenset[int]]:
        of = self.system
        index = of.index
        if flat.is_copy:
            used = {index[s] for s, t in flat.copies if s in index and t in index}
            return frozenset(used), frozenset(index[t] for _, t in flat.copies if t in index)
        operation = flat.edge.operation
        assert operation is not None
        used = {index[p] for n in operation.reads if (p := flat.places[n]) is not None and p in index}
        used |= {index[check.cell, 0] for check in flat.edge.checks if (check.cell, 0) in index}
        if operation.demands_free:
            used |= {number for number, place in enumerate(of.variables) if place[0].sort is Sort.HOLD}
        killed = {index[p] for n in operation.kills if (p := flat.places[n]) is not None and p in index}
        return frozenset(used), frozenset(killed)

    def text(self) -> str:
        names = [f"v{n}" for n in range(len(self.system.variables))]
        lines = ["(declare-rel broken ())"]
        for cut in self.cuts:
            lines.append(f"(declare-rel P{cut} ({' '.join(['Int'] * len(self.live[cut]))}))")
        lines += [f"(declare-var {name} Int)" for name in names]
        lines.append(_rule([self.system.start(names)], self._relation(self.system.entry, names)))
        for cut in self.cuts:
            lines += self._block(cut, names)
        return "\n".join(lines) + "\n"

    def _relation(self, cut: int, values: list[str]) -> str:
        arguments = [values[number] for number in sorted(self.live[cut])]
        return f"(P{cut} {' '.join(arguments)})" if arguments else f"P{cut}"

    def _block(self, cut: int, names: list[str]) -> list[str]:
        """The rules from one cut point to those after it, and to `broken`."""
        clause = _Clause()
        arriving: dict[int, list[tuple[str, list[str]]]] = {cut: [("true", names)]}
        bad: list[str] = []
        region = self._region(cut)
        for location in region:
            here, values = self._join(arriving.pop(location), location, clause, f"b{cut}_{location}")
            for number, edge in enumerate(self.out[location]):
                made = self.system.step(edge, values, f"b{cut}_{location}_{number}_")
                for item in made.items:
                    match item:
                        case Declared(name, sort):
                            clause.declared.append(f"(declare-var {name} {sort})")
                        case Defined(name, sort, term):
                            clause.declared.append(f"(declare-var {name} {sort})")
                            clause.facts.append(f"(= {name} {term})")
                        case Asserted(term):
                            clause.facts.append(term)
                if made.bad != "false":
                    bad.append(encode.conjunction((here, made.bad)))
                taken = encode.conjunction((here, made.alive))
                arriving.setdefault(edge.target, []).append((taken, made.outputs))
        lines = list(clause.declared)
        start = [self._relation(cut, names), *clause.facts]
        if bad:
            lines.append(_rule([*start, encode.disjunction(bad)], "broken"))
        for target, ways in arriving.items():
            if target in self.cuts:
                joined = _Clause()
                here, values = self._join(ways, target, joined, f"b{cut}_to{target}")
                lines += joined.declared
                lines.append(_rule([*start, *joined.facts, here], self._relation(target, values)))
        return lines

    def _region(self, cut: int) -> list[int]:
        """The locations reached from a cut point before the next, in topological order."""
        cuts, seen = set(self.cuts), {cut}
        pending = [cut]
        while pending:
            for edge in self.out[pending.pop()]:
                if edge.target not in cuts and edge.target not in seen:
                    seen.add(edge.target)
                    pending.append(edge.target)
        return [cut, *(location for location in self.order if location in seen and location != cut)]

    def _join(
        self, ways: list[tuple[str, list[str]]], location: int, clause: _Clause, stem: str
    ) -> tuple[str, list[str]]:
        """That some way was taken, and the values then; variables that differ get a name."""
        if len(ways) == 1:
            taken, values = ways[0]
            if len(taken) < 40:
                return taken, values
            name = clause.fresh(stem, "Bool")
            clause.facts.append(f"(= {name} {taken})")
            return name, values
        merged = list(ways[0][1])
        different = [n for n in self.live[location] if any(values[n] != merged[n] for _, values in ways)]
        for number in different:
            merged[number] = clause.fresh(stem, "Int")
        edges: list[str] = []
        for taken, values in ways:
            edge = clause.fresh(stem, "Bool")
            same = [f"(= {merged[n]} {values[n]})" for n in different]
            clause.facts.append(f"(=> {edge} {encode.conjunction([taken, *same])})")
            edges.append(edge)
        return encode.disjunction(edges), merged


def _rule(body: Iterable[str], head: str) -> str:
    return f"(rule (=> {encode.conjunction(body)} {head}))"


def _reverse_postorder(entry: int, out: list[list[FlatEdge]]) -> list[int]:
    order: list[int] = []
    seen = {entry}
    stack = [(entry, iter(out[entry]))]
    while stack:
        location, edges = stack[-1]
        for edge in edges:
            if edge.target not in seen:
                seen.add(edge.target)
                stack.append((edge.target, iter(out[edge.target])))
                break
        else:
            stack.pop()
            order.append(location)
    return order[::-1]


def main() -> int:
    """The child: reads a request, writes the answer."""
    import resource

    import z3

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    request = json.load(sys.stdin)
    fixedpoint = z3.Fixedpoint()
    fixedpoint.set("engine", "spacer")
    fixedpoint.set("timeout", request["seconds"] * 1000)
    fixedpoint.parse_string(request["text"])
    started = time.perf_counter()
    try:
        answer = fixedpoint.query(z3.Function("broken", z3.BoolSort())())
    except z3.Z3Exception:
        answer = z3.unknown
    verdict = "unsafe" if answer == z3.sat else "safe" if answer == z3.unsat else "unknown"
    json.dump({"verdict": verdict, "seconds": time.perf_counter() - started}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
