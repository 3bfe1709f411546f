"""From a case to a driver model: one file with a root for each context, and what each line stands for.

Every context is a root of a role of its own: started once, at exactly its level. Variables and saved levels are locals
of the root and reach called routines by reference: a property that one routine at a time decides does not depend on
what other contexts write. Properties without an obligation of their own are watched by `assert` statements at the
places in question, which add obligations and change nothing else, or by clauses of the roots in a second model.

What all contexts together decide is asked of a scenario: variables are shared then, levels saved in one of the
variables that the case lists too; each context runs once on its processor, and a variable that may be raced for has
data beside it, which is touched where the variable is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tests.conformance.notation import (
    Atomic,
    Body,
    Case,
    Check,
    Claim,
    Condition,
    Context,
    If,
    Loop,
    Op,
    Try,
    operations,
    statements,
)
from tests.conformance.operations import (
    BOUNDS,
    CALLOUTS,
    INITIALISERS,
    KINDS,
    LEVELS,
    LOCAL,
    OPERATIONS,
    RAISING,
    RELEASING_TO,
    SIGNALS,
    TRIES,
    TRY_SPELLINGS,
    ZERO_INITIALISED,
    Inexpressible,
    Template,
    is_level,
    level,
)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a line of the model is for. `sort`: acquire, try, release, init, callout, level, require, assert, watch.

    `claim` names the property that a watching line belongs to, `lock` the lock of the case, `polarity` tells
    `ensures held(L)` from `ensures not held(L)`, `root` the routine whose clause it is.
    """

    sort: str
    lock: str = ""
    claim: str = ""
    root: str = ""
    polarity: bool = True


@dataclass(frozen=True, slots=True)
class DriverModel:
    """The text of a model file; `marks` by line, counted from 1; `roots` in the order of the contexts."""

    text: str
    marks: dict[int, tuple[Mark, ...]]
    roots: tuple[str, ...]
    taking: tuple[str, ...]
    """Roots that acquire a lock, themselves or in a routine they call."""

    @property
    def counts(self) -> bool:
        """Whether something is counted, which more room may settle."""
        return f"bool {BEYOND};" in self.text


def lock_name(lock: str) -> str:
    """The model's name of a lock of the case."""
    return _name("lk_", lock)


def data_name(datum: str) -> str:
    """The model's name of what contexts of the case read and write."""
    return _name("d_", datum)


BY_CLAUSE = ("held_at_exit", "exits_at", "irql_never_above", "irql_never_below", "consistent_lock_state_at_exit")
"""Properties that are clauses of the roots. What a clause says about locks or the level at exit stands in place of B03
and I02, so these properties have a model of their own."""
WRITES = ("assign", "choose", "inc", "dec")
CONCURRENT = ("no_deadlock", "no_race")
SCENARIO = "together"
"""The name of the scenario in which all contexts of a case run."""

BEYOND = "still_beyond"
"""The local variable whose first value, unknown, is a choice between what a count beyond its range may do."""


@dataclass(frozen=True, slots=True, order=True)
class Question:
    """What the properties that one model decides have in common: `clauses`, they are clauses of the roots; `together`,
    a scenario of all contexts decides them; `order`, the order of locks over all routines (D04 of the open world)."""

    clauses: bool = False
    together: bool = False
    order: bool = False


def question(claim: Claim) -> Question:
    """The question that the claim belongs to."""
    order = claim.name == "lock_order_acyclic"
    together = not order and (claim.needs == "b" or claim.name in CONCURRENT)
    return Question(claim.name in BY_CLAUSE, together, order)


# ---- names and types ----


def _name(prefix: str, text: str) -> str:
    """A name of the language that no other name of the case, the shipped model or the language can be."""
    return prefix + re.sub(r"[\W_]", lambda m: "__" if m[0] == "_" else f"_{ord(m[0]):x}_", text, flags=re.ASCII)


def saved_name(variable: str) -> str:
    """The model's name of a variable that keeps a level."""
    implicit, _, lock = variable.partition("old:")
    return _name("old_", lock) if lock and not implicit else _name("o_", variable)


def _saved(op: Op) -> str:
    """The variable that keeps the old level: named in the case, or the lock's own."""
    if op.name in ("raise", "lower", "release_to"):
        return op.args[-1]
    return op.args[1] if len(op.args) > 1 else f"old:{op.args[0]}"


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of the case: `type` in the language; `initial` is its first value, None when unknown; `ends` the least
    and the greatest value of an int, which no condition names."""

    name: str
    type: str
    initial: str | None
    ends: tuple[int, int] = (0, 1)

    @property
    def start(self) -> str:
        return "" if self.initial is None else f" = {self.initial}"

    def literal(self, value: int) -> str:
        return ("true" if value else "false") if self.type == "bool" else str(value)


def _conditions(bodies: list[Body]) -> Iterator[Condition]:
    for body in bodies:
        for stmt in statements(body):
            match stmt:
                case If(condition) | Loop(condition) | Check(_, condition):
                    if condition.variable is not None:
                        yield condition


def _integer(text: str) -> int:
    """A number, or the number of a level."""
    return int(text) if re.fullmatch(r"-?\d+", text) else level(text)


def variables_of(case: Case, room: int) -> dict[str, Variable]:
    """Every variable that the operations of the case mention, with the smallest type that tells apart what they test.

    Counting goes beyond the named constants by `room` times what every `inc` and `dec` once and two more rounds of a
    loop come to.
    """
    bodies = [c.body for c in case.contexts] + list(case.routines.values())
    values: dict[str, set[int]] = {}
    exact: set[str] = set()
    steps: dict[str, int] = {}
    for condition in _conditions(bodies):
        assert condition.variable is not None
        values.setdefault(condition.variable, {0}).add(condition.value or 0)
        if condition.value:
            exact.add(condition.variable)
    for op in (o for body in bodies for o in operations(body)):
        if op.name in ("assign", "choose") and op.args:
            wanted = values.setdefault(op.args[0], {0})
            wanted.update(_integer(a) for a in op.args[1:] if a != "*")
        elif op.name in ("inc", "dec") and op.args:
            values.setdefault(op.args[0], {0})
            steps[op.args[0]] = steps.get(op.args[0], 2) + 1
    found = {}
    for name, wanted in values.items():
        initial = case.variables.get(name)
        if initial is not None:
            wanted.add(initial)
        margin = room * steps.get(name, 0)
        low, high = min(wanted) - margin, max(wanted) + margin + 1
        kind = f"int {low}..{high}" if name in exact or margin else "bool"
        variable = Variable(_name("v_", name), kind, None, (low, high))
        found[name] = variable if initial is None else replace(variable, initial=variable.literal(initial))
    return found


# ---- writing ----


@dataclass(slots=True)
class _Text:
    """Lines with their marks."""

    lines: list[str] = field(default_factory=list)
    marks: dict[int, tuple[Mark, ...]] = field(default_factory=dict)

    def add(self, line: str, *marks: Mark) -> None:
        self.lines.append(line)
        if marks:
            self.marks[len(self.lines)] = marks


def _kind(context: Context) -> str:
    return context.kind if context.kind in ("thread", "dpc", "isr") else "thread"


class _Translator:
    def __init__(self, case: Case, asked: Question, room: int) -> None:
        self.case = case
        self.together = asked.together
        self.claims = tuple(c for c in case.claims if question(c) == asked)
        self.raced = {c.subject for c in self.claims if c.name == "no_race"}
        self.watched = {c.name for c in self.claims}
        self.checks_life = "init_before_use" in self.watched
        self.saves = {_saved(op) for op in self.all_operations() if self._saves(op)}
        self.variables = variables_of(case, room)
        for name in self.saves:
            value = case.variables.get(name)
            self.variables[name] = Variable(saved_name(name), "KIRQL", None if value is None else str(value))
        for lock, kind in case.locks.items():
            flag = f"init:{lock}"
            if self.checks_life and (self.together or kind in ZERO_INITIALISED or flag in self.variables):
                first = "true" if case.variables.get(flag) else "false"
                self.variables[flag] = Variable(_name("v_", flag), "bool", first)
        self.shared = self._shared(asked)
        self.holds = self._holds(room)
        self.externs: dict[str, str] = {}
        self.text = _Text()
        self.used = self._used()

    def all_operations(self) -> Iterator[Op]:
        for context in self.case.contexts:
            yield from operations(context.body)
        for body in self.case.routines.values():
            yield from operations(body)

    def _saves(self, op: Op) -> bool:
        template = OPERATIONS.get(op.name)
        if template is not None and "{s}" in template.statement + template.local:
            self._lock_of(op)
            return True
        return op.name in ("raise", "lower", "release_to") and len(op.args) > 0 and not is_level(op.args[-1])

    # what a body needs to be handed

    def _mentions(self, body: Body) -> set[str]:
        names = set()
        for op in operations(body):
            if self._saves(op):
                names |= {_saved(op)} | ({f"old:{op.args[0]}"} & self.saves)
            if op.name in WRITES and op.args:
                names.add(op.args[0])
            flag = f"init:{op.args[0]}" if op.args else ""
            if flag in self.variables and self._touches(op):
                names.add(flag)
        return names | {c.variable for c in _conditions([body]) if c.variable is not None}

    def _shared(self, asked: Question) -> set[str]:
        """The variables of which there is one for all contexts; of the others every context has its own. The order of
        locks depends on what other contexts write, on what they do besides it does not."""
        common = {name for name in self.variables if name not in self.saves or name in self.case.variables}
        if asked.together:
            return common
        if not asked.order:
            return set()
        bodies = [self._with_callees(context.body) for context in self.case.contexts]
        written = [{o.args[0] for b in found for o in operations(b) if o.name in WRITES and o.args} for found in bodies]
        mentioned = [set().union(*map(self._mentions, found)) for found in bodies]
        return {
            name
            for name in common
            for writer, names in enumerate(written)
            for reader, others in enumerate(mentioned)
            if writer != reader and name in names and name in others
        }

    def _touches(self, op: Op) -> bool:
        template = OPERATIONS.get(op.name) or self._try_template(op)
        return op.name == "init" or (template is not None and template.sort == "acquire")

    def _try_template(self, op: Op) -> Template | None:
        return TRIES.get(TRY_SPELLINGS.get(op.name, op.name))

    def _callees(self, body: Body) -> set[str]:
        return {op.args[0] for op in operations(body) if op.name == "call" and op.args}

    def _holds(self, room: int) -> dict[str, Variable]:
        """For each lock that must not be initialised while anybody holds it, how often it is held, by all contexts."""
        if not self.together or "no_reinit_while_held" not in self.watched:
            return {}
        initialising = [op for op in self.all_operations() if op.name in ("init", "assign") and op.args]
        names = {op.args[0].removeprefix("init:") for op in initialising}
        ends = (-1, room * (len(self.case.contexts) + 1))  # from 0: it is counted down only by who holds the lock
        kind = f"int {ends[0]}..{ends[1]}"
        return {lock: Variable(_name("h_", lock), kind, "0", ends) for lock in self.case.locks if lock in names}

    def _used(self) -> dict[str, set[str]]:
        """For each routine, the variables that it or a routine it calls mentions."""
        used = {name: self._mentions(body) - self.shared for name, body in self.case.routines.items()}
        changed = True
        while changed:
            changed = False
            for name, body in self.case.routines.items():
                for callee in self._callees(body):
                    if callee in used and not used[callee] <= used[name]:
                        used[name] |= used[callee]
                        changed = True
        return used

    def _needs(self, body: Body) -> list[str]:
        names = self._mentions(body) - self.shared
        for callee in self._callees(body):
            names |= self.used.get(callee, set())
        return sorted(names)

    # declarations

    def model(self) -> DriverModel:
        text = self.text
        bodies = _Text()
        self.text = bodies
        roots = tuple(self._root(context, position) for position, context in enumerate(self.case.contexts))
        for name in sorted(self._reached(*(c.body for c in self.case.contexts))):
            self._routine(name)
        self.text = text
        text.add("driver case;")
        text.add("import wdm;")
        text.add("setting at_dpc_above_dispatch = true;")
        for lock, kind in self.case.locks.items():
            self._declare_lock(lock, kind)
        for event in sorted({op.args[0] for op in self.all_operations() if op.name in SIGNALS and op.args}):
            text.add(f"event {_name('ev_', event)};")
        data = {op.args[0] for op in self.all_operations() if op.name in ("read", "write") and op.args}
        for datum in sorted(data | (self.raced & self.shared)):
            text.add(f"data {_name('d_', datum)};")
        for variable in [*map(self._variable, sorted(self.shared)), *self.holds.values()]:
            text.add(f"var {variable.name} : {variable.type}{variable.start};")
        for name, body in sorted(self.externs.items()):
            for line in f"extern {name}{body}".splitlines():
                text.add(line)
        if self.together:
            self._scenario(bodies, roots)
        shift = len(text.lines)
        text.lines += bodies.lines
        text.marks.update({line + shift: marks for line, marks in bodies.marks.items()})
        taking = tuple(root for root, c in zip(roots, self.case.contexts, strict=True) if self._takes(c.body))
        return DriverModel("\n".join(text.lines) + "\n", text.marks, roots, taking)

    def _scenario(self, text: _Text, roots: tuple[str, ...]) -> None:
        processors = max([self.case.cpus, *(context.cpu + 1 for context in self.case.contexts)])
        text.add(f"scenario {SCENARIO} on {processors} processors {{")
        for root, context in zip(roots, self.case.contexts, strict=True):
            start = f"as {_kind(context)} at {level(context.irql)}"
            text.add(f"    run {root}() {start} on {context.cpu};")
        text.add("}")

    def _takes(self, body: Body) -> bool:
        bodies = self._with_callees(body)
        names = {op.name for b in bodies for op in operations(b)}
        return any(n in OPERATIONS and OPERATIONS[n].sort == "acquire" for n in names)

    def _declare_lock(self, lock: str, kind: str) -> None:
        if kind not in KINDS:
            raise Inexpressible(f"the lock kind `{kind}` of `{lock}`")
        if kind == "interrupt":
            self.text.add(f"interrupt {_name('lk_', lock)} at {LEVELS['DIRQL']};")
            return
        flag = f"init:{lock}"  # a lock that starts so, and one whose flag tells instead
        initialised = not self.checks_life or flag in self.variables or self.case.variables.get(flag)
        self.text.add(f"lock {_name('lk_', lock)} : {KINDS[kind]}{' initialised' if initialised else ''};")

    def _reached(self, *bodies: Body) -> set[str]:
        """The routines of the case that the bodies call, directly or not."""
        found: set[str] = set()
        todo = [callee for body in bodies for callee in self._callees(body)]
        while todo:
            name = todo.pop()
            if name in self.case.routines and name not in found:
                found.add(name)
                todo += self._callees(self.case.routines[name])
        return found

    def _with_callees(self, body: Body) -> list[Body]:
        return [body, *(self.case.routines[name] for name in sorted(self._reached(body)))]

    def _root(self, context: Context, position: int) -> str:
        root, role = _name(f"cx{position}_", context.name), f"CASE_ROLE_{position}"
        if self.together:
            self.text.add(f"routine {root}()")
        else:
            self.text.add(f"role {role} {{ irql {level(context.irql)}; {_kind(context)}; single; }}")
            self.text.add(f"routine {root}() as {role}")
        for clause, mark in self._clauses(context, root):
            self.text.add(f"    {clause}", mark)
        self.text.add("{")
        for variable in map(self._variable, self._needs(context.body)):
            self.text.add(f"    {variable.type} {variable.name}{variable.start};")
        self._body(context.body, 1, in_root=True)
        self.text.add("}")
        return root

    def _clauses(self, context: Context, root: str) -> Iterator[tuple[str, Mark]]:
        touched = sorted(self._locks_touched(context.body))
        for claim in self.claims:
            mark = Mark("watch", claim=str(claim), root=root, lock=claim.subject)
            match claim.name:
                case "held_at_exit" if self._concerns(context, claim.subject):
                    yield f"ensures held({self._lock(claim.subject)})", mark
                case "exits_at":
                    yield f"ensures irql == {level(claim.subject)}", mark
                case "irql_never_above":
                    yield f"always irql <= {level(claim.subject)}", mark
                case "irql_never_below":
                    yield f"always irql >= {level(claim.subject)}", mark
                case "consistent_lock_state_at_exit":
                    for lock in touched:
                        for polarity in (True, False):
                            condition = f"held({self._lock(lock)})"
                            yield (
                                f"ensures {condition if polarity else 'not ' + condition}",
                                Mark("watch", lock, str(claim), root, polarity),
                            )

    def _concerns(self, context: Context, lock: str) -> bool:
        """Whether the context is one of those that operate on the lock; where none does, every one is."""
        touching = [c for c in self.case.contexts if lock in self._locks_touched(c.body)]
        return context in touching or not touching

    def _locks_touched(self, body: Body) -> set[str]:
        bodies = self._with_callees(body)
        return {op.args[0] for b in bodies for op in operations(b) if op.args and op.args[0] in self.case.locks}

    def _variable(self, name: str) -> Variable:
        variable = self.variables.get(name)
        if variable is None:
            raise Inexpressible(f"the variable `{name}`")
        return variable

    def _routine(self, name: str) -> None:
        variables = [self._variable(used) for used in sorted(self.used[name])]
        params = [f"{variable.type} &{variable.name}" for variable in variables]
        self.text.add(f"routine {_name('rt_', name)}({', '.join(params)})")
        self.text.add("{")
        self._body(self.case.routines[name], 1, in_root=False)
        self.text.add("}")

    # statements

    def _body(self, body: Body, depth: int, in_root: bool) -> None:
        pad = "    " * depth
        for stmt in body:
            match stmt:
                case Op():
                    self._operation(stmt, pad)
                    self._watch_level(stmt, pad, in_root)
                case If(condition, then, otherwise):
                    self._touch(condition.variable, pad)
                    self.text.add(f"{pad}if ({self._condition(condition)}) {{")
                    self._body(then, depth + 1, in_root)
                    if otherwise:
                        self.text.add(f"{pad}}} else {{")
                        self._body(otherwise, depth + 1, in_root)
                    self.text.add(f"{pad}}}")
                case Loop(condition, inner):
                    self._touch(condition.variable, pad)
                    self.text.add(f"{pad}while ({self._condition(condition)}) {{")
                    self._body(inner, depth + 1, in_root)
                    self._touch(condition.variable, pad + "    ")
                    self.text.add(f"{pad}}}")
                case Try(op, then, otherwise):
                    self._try(op, pad)
                    self._hold(op, pad + "    ")
                    self._watch_level(op, pad + "    ", in_root)
                    self._body(then, depth + 1, in_root)
                    if otherwise:
                        self.text.add(f"{pad}}} else {{")
                        self._body(otherwise, depth + 1, in_root)
                    self.text.add(f"{pad}}}")
                case Atomic(inner):
                    self.text.add(f"{pad}atomic {{")
                    self._body(inner, depth + 1, in_root)
                    self.text.add(f"{pad}}}")
                case Check(assertion, condition):
                    self._touch(condition.variable, pad)
                    marks = (Mark("assert"),) if assertion else ()
                    word = "assert" if assertion else "assume"
                    self.text.add(f"{pad}{word} {self._condition(condition)};", *marks)

    def _touch(self, name: str | None, pad: str, write: bool = False) -> None:
        """Touches the data beside a variable that may be raced for."""
        if name is not None and name in self.raced & self.shared:
            self.text.add(f"{pad}{'write' if write else 'read'} {_name('d_', name)};")

    def _condition(self, condition: Condition) -> str:
        if condition.variable is None:
            return "*" if condition.value is None else ("true" if condition.value else "false")
        variable = self._variable(condition.variable)
        if variable.type == "bool":
            positive = (condition.relation == "!=") == (not condition.value)
            return variable.name if positive else f"!{variable.name}"
        return f"{variable.name} {condition.relation} {condition.value}"

    def _lock(self, lock: str) -> str:
        kind = self.case.locks.get(lock)
        if kind is None:
            raise Inexpressible(f"`{lock}` is not a lock of the case")
        return lock_name(lock) + (".lock" if kind == "interrupt" else "")

    def _lock_of(self, op: Op) -> str:
        if not op.args:
            raise Inexpressible(f"`{op}` names no lock")
        return op.args[0]

    def _extern(self, call: str) -> str:
        """The call, with the declaration of the extern it calls noted."""
        name = call.split("(")[0].split("=")[-1].strip()
        if name in LOCAL:
            self.externs[name] = LOCAL[name]
        return call

    def _fill(self, template: Template, op: Op, saved: str) -> str:
        lock = self._lock_of(op)
        reference = self._lock(lock)
        fits = self.case.locks[lock] in template.kinds and not (
            self.case.locks[lock] == "interrupt" and "{L}" in template.statement
        )
        pattern = template.statement if fits else template.local
        if not fits and "Acquire" in template.local:
            saved = f"&{saved}"
        return self._extern(pattern.format(L=reference if fits else f"&{reference}", I=lock_name(lock), s=saved))

    def _watch_acquire(self, op: Op, template: Template, pad: str, attempt: bool = False) -> None:
        lock = op.args[0]
        for claim in self.claims:
            mark = Mark("watch", lock, str(claim), polarity=True)
            if claim.name == "no_shared_to_exclusive_upgrade" and template.exclusive and not attempt:
                self.text.add(f"{pad}assert not held({self._lock(lock)}, shared);", mark)
            if claim.name == "no_recursive_try_acquire" and attempt:
                self.text.add(f"{pad}assert not held({self._lock(lock)});", mark)
            if claim.name == "init_before_use" and f"init:{lock}" in self.variables:
                self.text.add(f"{pad}assert {self._variable(f'init:{lock}').name};", mark)
            if claim.name == "irql_never_above" and RAISING.get(op.name, 0) > level(claim.subject):
                self.text.add(f"{pad}assert false;", mark)  # reached even where the lock is never got

    def _watch_level(self, op: Op, pad: str, in_root: bool) -> None:
        """In a called routine: the bound that the root's `always` states, after each change of level."""
        if in_root or op.name in ("return", "call", "nop", "read", "write", *WRITES):
            return
        for claim in self.claims:
            if claim.name in ("irql_never_above", "irql_never_below"):
                relation = "<=" if claim.name == "irql_never_above" else ">="
                self.text.add(f"{pad}assert irql {relation} {level(claim.subject)};", Mark("watch", "", str(claim)))

    def _try(self, op: Op, pad: str) -> None:
        template = self._try_template(op)
        if template is None:
            raise Inexpressible(f"`{op}`")
        self._watch_acquire(op, template, pad, attempt=True)
        call = self._fill(template, op, "")
        self.text.add(f"{pad}if ({call}) {{", Mark("try", op.args[0]))

    def _operation(self, op: Op, pad: str) -> None:
        template = OPERATIONS.get(op.name)
        if template is not None:
            if template.sort == "acquire":
                self._watch_acquire(op, template, pad)
            name = _saved(op) if self._saves(op) else None
            saved = "" if name is None else saved_name(name)
            if template.sort == "release":
                self._touch(name, pad)
                self._unhold(op, pad)
            self.text.add(pad + self._fill(template, op, saved), Mark(template.sort, self._lock_of(op)))
            if template.sort == "acquire":
                self._touch(name, pad, write=True)
                self._hold(op, pad)
            implicit = f"old:{op.args[0]}"
            if saved and template.sort == "acquire" and implicit in self.saves and _saved(op) != implicit:
                self.text.add(f"{pad}{saved_name(implicit)} = {saved};")
            return
        if op.name in SIGNALS and op.args:
            self.text.add(pad + SIGNALS[op.name].format(E=_name("ev_", op.args[0])))
        elif op.name in CALLOUTS:
            if "no_callout_with_spinlock" in self.watched:
                self.text.add(pad + self._extern("CaseCallout();"), Mark("callout"))
            self.text.add(pad + CALLOUTS[op.name])
        elif op.name in BOUNDS and op.args:
            self._bound(op, pad)
        elif op.name in ("raise", "lower") and op.args:
            self._level(op, pad)
        elif op.name == "release_to" and len(op.args) == 2:
            self._touch(op.args[1], pad)
            self._unhold(op, pad)
            saved = saved_name(op.args[1]) if self._saves(op) else str(level(op.args[1]))
            template = RELEASING_TO.get(self.case.locks.get(op.args[0], ""), OPERATIONS["release"])
            self.text.add(pad + self._fill(template, op, saved), Mark("release", op.args[0]))
        elif op.name == "init" and op.args:
            self._init(op, pad)
        elif op.name in ("read", "write") and op.args:
            self.text.add(f"{pad}{op.name} {_name('d_', op.args[0])};")
        elif op.name in WRITES and op.args:
            self._assign(op, pad)
        elif op.name == "call" and op.args:
            self._call(op, pad)
        elif op.name == "return":
            self.text.add(f"{pad}return;")
        elif op.name != "nop":
            raise Inexpressible(f"`{op}`")

    def _bound(self, op: Op, pad: str) -> None:
        bound = level(op.args[0])
        name = {"<=": "CaseRequireMax", ">=": "CaseRequireMin", "==": "CaseRequireEq"}[BOUNDS[op.name]] + str(bound)
        self.externs[name] = f"() requires irql {BOUNDS[op.name]} {bound} {{ }}"
        self.text.add(f"{pad}{name}();", Mark("require"))

    def _level(self, op: Op, pad: str) -> None:
        """`raise(l)`, `lower(l)`; `raise(l,s)` keeps the old level in s, which `lower(s)` goes back to."""
        target, keeps = op.args[0], len(op.args) > 1
        if keeps:
            self._touch(op.args[1], pad, write=True)
            self.text.add(f"{pad}{saved_name(op.args[1])} = irql;")
        self._touch(target, pad)
        value = str(level(target)) if is_level(target) else saved_name(target)
        name = "CaseRaise" if op.name == "raise" else "CaseLower"
        self.text.add(pad + self._extern(f"{name}({value});"), Mark("level"))

    def _hold(self, op: Op, pad: str) -> None:
        if op.args[0] in self.holds:
            self._count(self.holds[op.args[0]], True, pad)

    def _unhold(self, op: Op, pad: str) -> None:
        if op.args[0] in self.holds:
            self.text.add(f"{pad}if (held({self._lock(op.args[0])})) {{")
            self._count(self.holds[op.args[0]], False, pad + "    ")
            self.text.add(f"{pad}}}")

    def _init(self, op: Op, pad: str) -> None:
        lock = op.args[0]
        for claim in self.claims:
            if claim.name == "no_reinit_while_held":
                held = self.holds.get(lock)
                free = f"not held({self._lock(lock)})" if held is None else f"{held.name} == 0"
                self.text.add(f"{pad}assert {free};", Mark("watch", lock, str(claim)))
        pattern = INITIALISERS.get(self.case.locks.get(lock, ""), "CaseInit(&{L});")
        self.text.add(pad + self._extern(pattern.format(L=self._lock(lock))), Mark("init", lock))
        flag = self.variables.get(f"init:{lock}")
        if flag is not None:
            self.text.add(f"{pad}{flag.name} = {flag.literal(1)};")

    def _assign(self, op: Op, pad: str) -> None:
        name = op.args[0]
        if name in self.saves and op.name in ("inc", "dec"):
            raise Inexpressible(f"`{op}` of a saved level")
        if name.startswith("init:") and op.args[1:] not in ((), ("0",), ("*",)):
            self._init(Op("init", (name.removeprefix("init:"),)), pad)
            return
        variable = self._variable(name)
        if op.name in ("inc", "dec"):
            self._touch(name, pad)
        self._touch(name, pad, write=True)
        values = [a if a == "*" else variable.literal(_integer(a)) for a in op.args[1:]]
        match op.name:
            case "inc" | "dec":
                self._count(variable, op.name == "inc", pad)
            case _ if len(values) == 1:
                self.text.add(f"{pad}{variable.name} = {values[0]};")
            case _:
                for value in values[:-1]:
                    self.text.add(f"{pad}if (*) {{ {variable.name} = {value}; }} else {{")
                self.text.add(f"{pad}{variable.name} = {values[-1]}; {'}' * (len(values) - 1)}")

    def _count(self, variable: Variable, up: bool, pad: str) -> None:
        """One more or one less. An end of the range stands for all that lies beyond it as well: a count that would go
        there stays (C04, which nobody asks for), and one that comes from there is back or still beyond. So every run
        of the case is one of the model, and one of the model is one of the case unless it makes that choice."""
        step = f"{variable.name}{'++' if up else '--'};"
        self.text.add(f"{pad}atomic {{")
        self.text.add(f"{pad}    if ({variable.name} == {variable.ends[0 if up else 1]}) {{")
        self.text.add(f"{pad}        bool {BEYOND}; if (!{BEYOND}) {{ {step} }}")
        self.text.add(f"{pad}    }} else {{ {step} }}")
        self.text.add(f"{pad}}}")

    def _call(self, op: Op, pad: str) -> None:
        name = op.args[0]
        if name not in self.case.routines:
            raise Inexpressible(f"the routine `{name}` is not in the case")
        args = [self._variable(used).name for used in sorted(self.used[name])]
        self.text.add(f"{pad}{_name('rt_', name)}({', '.join('&' + a for a in args)});")


def translate(case: Case, asked: Question, room: int = 1) -> DriverModel:
    """The driver model that decides the properties of a case which belong to a question. `room`: how far to count, in
    steps of the case. Raises Inexpressible."""
    return _Translator(case, asked, room).model()
