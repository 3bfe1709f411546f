"""The last resort: Spacer (Z3's Horn solver) on one root, in a child process with limits on time and memory.

Locations are predicates over the variables that matter, edges are clauses. What it gives back, a formula for each
location, is only a proposal: `evidence.conditions` asks every edge again. That it finds the system unsafe is not
believed either: there is no trace to replay.

Komuravelli, Gurfinkel, Chaki: SMT-based model checking for recursive programs, CAV 2014.
"""

from __future__ import annotations

import json
import sys

from modelcheck import encode
from modelcheck.encode import Asserted, Declared, Defined
from modelcheck.system import System, Transition

MEMORY = 4 * 1024**3
"""Bytes of address space for the child."""


def clauses(system: System) -> str:
    """The system as rules of Z3's fixed-point format; `broken` is derivable when an obligation can be broken."""
    count = len(system.variables)
    names = [f"v{n}" for n in range(count)]
    lines = ["(declare-rel broken ())"]
    for location in range(system.size):
        lines.append(f"(declare-rel P{location} ({' '.join(['Int'] * count)}))")
    lines += [f"(declare-var {name} Int)" for name in names]
    lines.append(_rule([system.start(names)], _apply(system.entry, names)))
    for number, flat in enumerate(system.edges):
        if flat.source not in system.useful:
            continue
        made = system.step(flat, names, f"e{number}_")
        before = [_apply(flat.source, names), *_facts(made)]
        lines += [f"(declare-var {i.name} {i.sort})" for i in made.items if isinstance(i, Declared | Defined)]
        if flat.target in system.useful:
            lines.append(_rule([*before, made.alive], _apply(flat.target, made.outputs)))
        if made.bad != "false":
            lines.append(_rule([*before, made.bad], "broken"))
    return "\n".join(lines) + "\n"


def _apply(location: int, arguments: list[str]) -> str:
    return f"(P{location} {' '.join(arguments)})" if arguments else f"P{location}"


def _facts(made: Transition) -> list[str]:
    """What the items of a step say, as conjuncts."""
    facts = []
    for item in made.items:
        match item:
            case Asserted(term):
                facts.append(term)
            case Defined(name, _, term):
                facts.append(f"(= {name} {term})")
            case _:
                pass
    return facts


def _rule(body: list[str], head: str) -> str:
    return f"(rule (=> {encode.conjunction(body)} {head}))"


def solve(system: System, seconds: float) -> list[str] | str:
    """A formula over v0, v1, .. for each location that proves the obligations, or why there is none."""
    import subprocess  # only here: few runs get this far

    request = json.dumps({"text": clauses(system), "locations": system.size, "variables": len(system.variables)})
    command = [sys.executable, "-m", "modelcheck.engines.spacer", str(seconds), str(MEMORY)]
    try:
        done = subprocess.run(command, input=request, capture_output=True, text=True, timeout=seconds + 10, check=False)
    except subprocess.TimeoutExpired:
        return f"Spacer gave no answer within {seconds:g} s"
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        why = "out of memory" if "memory" in done.stderr else said[-1] if said else f"status {done.returncode}"
        return f"Spacer gave no answer (its process ended: {why})"
    answer = json.loads(done.stdout)
    if answer["answer"] == "safe":
        return [str(formula) for formula in answer["formulas"]]
    if answer["answer"] == "unsafe":
        return "Spacer finds that it can be broken, but shows no run of it"
    return f"Spacer gave no answer within {seconds:g} s"


def main(arguments: list[str]) -> int:
    """The child: reads a request, writes the answer."""
    import resource

    import z3

    limit = int(arguments[1])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    request = json.load(sys.stdin)
    fixedpoint = z3.Fixedpoint()
    fixedpoint.set("engine", "spacer")
    fixedpoint.set("timeout", int(float(arguments[0]) * 1000))
    for option in ("inline_eager", "inline_linear", "slice", "coi"):
        fixedpoint.set(f"xform.{option}", False)  # what is simplified away comes back as a formula too weak to check
    fixedpoint.parse_string(request["text"])
    try:
        answer = fixedpoint.query(z3.Function("broken", z3.BoolSort())())
    except z3.Z3Exception as error:
        if "canceled" not in str(error):
            raise
        answer = z3.unknown  # its time is over
    if answer == z3.sat:
        json.dump({"answer": "unsafe"}, sys.stdout)
    elif answer == z3.unsat:
        variables = [z3.Int(f"v{n}") for n in range(request["variables"])]
        sorts = [z3.IntSort()] * len(variables)
        formulas = []
        for location in range(request["locations"]):
            predicate = z3.Function(f"P{location}", *sorts, z3.BoolSort())
            cover = fixedpoint.get_cover_delta(-1, predicate)
            formulas.append(z3.substitute_vars(cover, *variables).sexpr())
        json.dump({"answer": "safe", "formulas": formulas}, sys.stdout)
    else:
        json.dump({"answer": "unknown"}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
