"""The notation of the conformance cases: operation sequences as text or as JSON, read into a small tree.

A case names its locks with their kinds, the initial values of its variables, routines, and contexts that are started
once. `read_case` accepts a context's `text` (`acquire(L);if(*){return}else{};release(L)`) or, without one, its `ops`
(strings and objects such as `{"if": "*", "then": [..], "else": [..]}`). Spacing, stray semicolons and missing
`else` branches do not matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias


class Malformed(Exception):
    """The text is not in the notation; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Op:
    """`acquire(L)`, `assign(v,1)`, `return`: a name with arguments."""

    name: str
    args: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({','.join(self.args)})" if self.args else self.name


@dataclass(frozen=True, slots=True)
class Condition:
    """`v == n`, `v != n`; no variable: `*` (no value) or a constant (`value` other than 0 is true)."""

    variable: str | None
    relation: str = "=="
    value: int | None = None

    def __str__(self) -> str:
        if self.variable is None:
            return "*" if self.value is None else str(self.value)
        return f"{self.variable}{self.relation}{self.value}"


@dataclass(frozen=True, slots=True)
class If:
    condition: Condition
    then: Body
    otherwise: Body


@dataclass(frozen=True, slots=True)
class Loop:
    condition: Condition
    body: Body


@dataclass(frozen=True, slots=True)
class Try:
    """`try_acquire_dpc(L){..}else{..}`: the first branch runs with the lock held."""

    op: Op
    then: Body
    otherwise: Body


@dataclass(frozen=True, slots=True)
class Atomic:
    body: Body


@dataclass(frozen=True, slots=True)
class Check:
    """`assert(c)` or `assume(c)`."""

    assertion: bool
    condition: Condition


Stmt: TypeAlias = Op | If | Loop | Try | Atomic | Check
Body: TypeAlias = tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Context:
    name: str
    kind: str
    irql: str
    cpu: int
    body: Body


@dataclass(frozen=True, slots=True)
class Claim:
    """A property that the case says holds (`verdict`) or does not; `subject` is the argument, or empty."""

    name: str
    subject: str
    verdict: bool
    needs: str

    def __str__(self) -> str:
        return f"{self.name}({self.subject})" if self.subject else self.name


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    locks: Mapping[str, str]
    variables: Mapping[str, int | None]
    """Initial values; None or absent: unknown."""
    routines: Mapping[str, Body]
    contexts: tuple[Context, ...]
    claims: tuple[Claim, ...]
    cpus: int = 1
    notes: str = field(default="", compare=False)


# ---- reading text ----

_TOKEN = re.compile(r"\s*([(){};,]|[^(){};,]+)")
_CONDITION = re.compile(r"(!?)\s*([A-Za-z_][\w:.]*)\s*(?:(==|!=|=)\s*(-?\d+))?")


def parse_condition(text: str) -> Condition:
    """`*`, `v`, `!v`, `v==n`, `v!=n`, or a constant. Raises Malformed."""
    words = text.strip()
    while words.startswith("(") and words.endswith(")"):
        words = words[1:-1].strip()
    constant = {"*": None, "true": 1, "TRUE": 1, "false": 0, "FALSE": 0, "1": 1, "0": 0}
    if words in constant:
        return Condition(None, "==", constant[words])
    match = _CONDITION.fullmatch(words)
    if match is None:
        raise Malformed(f"`{words}` is not a condition")
    negated, name, relation, value = match.groups()
    if relation is None:
        return Condition(name, "==" if negated else "!=", 0)
    equal = (relation != "!=") != bool(negated)
    return Condition(name, "==" if equal else "!=", int(value))


class _Reader:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.tokens = [m.group(1).strip() for m in _TOKEN.finditer(text.strip())]
        self.at = 0

    def peek(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def accept(self, token: str) -> bool:
        if self.peek() == token:
            self.at += 1
            return True
        return False

    def expect(self, token: str) -> None:
        if not self.accept(token):
            raise Malformed(f"`{token}` expected, `{self.peek() or 'end of text'}` found")

    def take(self) -> str:
        token = self.peek()
        if token is None or token in "(){};,":
            raise Malformed(f"a name expected, `{token or 'end of text'}` found")
        self.at += 1
        return token

    def body(self) -> Body:
        """Statements up to a `}` or the end."""
        found: list[Stmt] = []
        while self.peek() not in (None, "}"):
            if self.accept(";") or self.accept(","):
                continue
            found.extend(self.statement())
        return tuple(found)

    def block(self) -> Body:
        """`{ .. }`, or one statement without braces."""
        if self.accept("{"):
            inner = self.body()
            self.expect("}")
            return inner
        return self.statement()

    def condition(self) -> Condition:
        self.expect("(")
        depth, words = 1, []
        while depth:
            token = self.peek()
            if token is None:
                raise Malformed("a `)` is missing")
            self.at += 1
            depth += {"(": 1, ")": -1}.get(token, 0)
            if depth:
                words.append(token)
        return parse_condition("".join(words))

    def arguments(self) -> tuple[str, ...]:
        if not self.accept("("):
            return ()
        args = []
        while not self.accept(")"):
            if not self.accept(","):
                args.append(self.take())
        return tuple(args)

    def otherwise(self) -> Body:
        start = self.at
        while self.accept(";"):
            pass
        token = self.peek()
        if token is None or token.split()[:1] != ["else"]:
            self.at = start
            return ()
        rest = token.removeprefix("else").strip()
        if rest:  # `else if (..)`, `else release`: the tokens were not separated by a bracket
            self.tokens[self.at] = rest
        else:
            self.at += 1
        return self.block()

    def statement(self) -> Body:
        if self.peek() == "{":
            return self.block()
        name = self.take()
        match name:
            case "if":
                condition = self.condition()
                return (If(condition, self.block(), self.otherwise()),)
            case "loop" | "while":
                return (Loop(self.condition(), self.block()),)
            case "atomic":
                return (Atomic(self.block()),)
            case "assert" | "assume":
                return (Check(name == "assert", self.condition()),)
        op = Op(name, self.arguments())
        if name.startswith("try_"):
            then = self.block() if self.peek() == "{" else ()
            return (Try(op, then, self.otherwise()),)
        if self.peek() not in (None, ";", "}", ","):
            raise Malformed(f"`;` expected after `{op}`, `{self.peek()}` found")
        return (op,)


def parse_text(text: str) -> Body:
    """The statements of a text. Raises Malformed."""
    reader = _Reader(text)
    body = reader.body()
    if reader.peek() is not None:
        raise Malformed(f"a `{reader.peek()}` too many")
    return body


# ---- reading JSON ----


def parse_ops(ops: Sequence[Any]) -> Body:
    """The statements of a list of strings and objects. Raises Malformed."""
    return tuple(stmt for op in ops for stmt in _parse_op(op))


def _parse_op(op: Any) -> Body:
    if isinstance(op, str):
        return parse_text(op)
    if not isinstance(op, Mapping):
        raise Malformed(f"`{op}` is not an operation")
    then, otherwise = parse_ops(op.get("then") or ()), parse_ops(op.get("else") or ())
    body = parse_ops(op.get("body") or op.get("do") or ())
    for key, value in op.items():
        if key == "if":
            return (If(parse_condition(value), then, otherwise),)
        if key in ("loop", "while"):
            return (Loop(parse_condition(value), body or then),)
        if key == "atomic":
            return (Atomic(parse_ops(value) if isinstance(value, list) else body),)
        if key.startswith("try_"):
            args = tuple(value) if isinstance(value, list) else tuple(str(value).replace(" ", "").split(","))
            return (Try(Op(key, args), then, otherwise),)
    raise Malformed(f"`{dict(op)}` is not an operation")


def _read_body(source: Any) -> Body:
    """The statements of a context or routine: `text` or `ops`, or the text or list itself."""
    if isinstance(source, str):
        return parse_text(source)
    if isinstance(source, Mapping):
        text = source.get("text")
        return parse_text(text) if isinstance(text, str) else parse_ops(source.get("ops") or ())
    return parse_ops(source)


def _read_claim(source: Mapping[str, Any]) -> Claim:
    name, _, subject = str(source.get("name", "")).partition("(")
    subject = subject.strip().removesuffix(")").strip()
    return Claim(name.strip(), subject, bool(source.get("verdict")), str(source.get("needs") or "a"))


def read_claims(source: Mapping[str, Any]) -> tuple[Claim, ...]:
    """Only the properties of a case, for a case that cannot be read otherwise."""
    properties = source.get("properties") or ()
    listed = [properties] if isinstance(properties, Mapping) else properties
    return tuple(_read_claim(p) for p in listed if isinstance(p, Mapping))


_START = {"thread": "PASSIVE", "dpc": "DISPATCH", "isr": "DIRQL"}


def read_case(source: Mapping[str, Any]) -> Case:
    """One case. Raises Malformed."""
    contexts = []
    for position, c in enumerate(source["contexts"]):
        kind = str(c.get("kind") or "thread").strip()
        irql = str(c.get("irql") or _START.get(kind, "PASSIVE")).strip()
        contexts.append(Context(str(c.get("name", f"c{position}")), kind, irql, int(c.get("cpu") or 0), _read_body(c)))
    variables = {str(n).replace(" ", ""): _initial(v) for n, v in (source.get("vars") or {}).items()}
    return Case(
        id=str(source.get("id", "?")),
        locks=dict(source.get("locks") or {}),
        variables=variables,
        routines={str(n): _read_body(r) for n, r in (source.get("routines") or {}).items()},
        contexts=tuple(contexts),
        claims=read_claims(source),
        cpus=int(source.get("cpus") or 1),
        notes=str(source.get("notes") or ""),
    )


def _initial(value: Any) -> int | None:
    return None if value is None or value in ("*", "?") else int(value)


# ---- walking ----


def statements(body: Body) -> Iterator[Stmt]:
    """Every statement of a body, nested ones too, in order."""
    for stmt in body:
        yield stmt
        match stmt:
            case If(_, then, otherwise) | Try(_, then, otherwise):
                yield from statements(then)
                yield from statements(otherwise)
            case Loop(_, inner) | Atomic(inner):
                yield from statements(inner)


def operations(body: Body) -> Iterator[Op]:
    """Every operation of a body, those of `try_..` included."""
    for stmt in statements(body):
        match stmt:
            case Op():
                yield stmt
            case Try(op):
                yield op
