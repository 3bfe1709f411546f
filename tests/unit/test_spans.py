"""Where nodes stand: the text of a place is what was written there, no more and no less."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from modelcheck import syntax as s
from modelcheck.parser import parse
from modelcheck.source import Source

ROOT = Path(__file__).parent.parent.parent
FILES = sorted(path for folder in ("examples", "models", "tests/verdicts") for path in (ROOT / folder).rglob("*.drvm"))
HEADS = (s.If, s.While, s.For, s.Switch)
WORDS = {s.DoWhile: "do", s.Try: "try", s.Atomic: "atomic"}
NAMED = (
    *(s.Driver, s.Import, s.Setting, s.SettingDecl, s.Const, s.EnumDecl, s.LockDecl, s.DataDecl, s.EventDecl),
    *(s.VarDecl, s.ContextVar, s.DeviceDecl, s.InterruptDecl, s.DeferredDecl, s.Scenario, s.Field, s.LockField),
    *(s.LockKind, s.HandleKind, s.Role, s.Routine, s.Extern, s.LockParam, s.ValueParam, s.ObjectParam, s.OpaqueParam),
    s.Member,
)
EVERYTHING = """
driver everything;
routine R(lock L, out KIRQL o) : int -3 .. 4 as ROLE(1) requires held(L) acquires L shared as TAG ensures old( o ) == 2
{
    int 0..20 i; bool a = true, b, c=!a;  enum { up, down } m = up; counter 3 n; KIRQL old;
    i++; i --; i = - 3 + ( i * (2) ) % 4; Bucket[ i ].saved = f( ) ; p->x = 1;
    h(); h ( &L , &Bucket[1], * ); x = g(f(1), (2));
    if (a) { } else if ( (a || b) && not c ) { } while (held( L, shared ) == !(a)) { } do { } while (irql <= 2);
    for (i = 0; i < 3; i++) { } for (f(); ; g()) { } switch (m) { case (up): default: }
    L : goto L; try { leave; } finally { } atomic { } assume ( a ); assert a; read D; write Port.D ; cost 3us;
    return (i);
}
extern E() {
    init L; free L; acquire L shared as T; release L either; convert L to shared; raise 3; lower (2); blocks; wait E;
    set E; clear E; enable D; require L.x == none else C03 "why" ; call R( 1, &x ) ; may reenter ROLE;
    a = try_acquire L shared as T ; b = try_convert L; require no_spin_lock else C03 ""; require no_lock else C03 "";
}
"""


def nodes(thing: Any) -> Iterator[Any]:
    """Every node in a tree. `i++` is written once for all that it stands for."""
    if isinstance(thing, tuple):
        for part in thing:
            yield from nodes(part)
    elif hasattr(thing, "span"):
        yield thing
        if isinstance(thing, s.Assign) and thing.value.span == thing.span:
            yield from nodes(thing.target)
            return
        for field in fields(thing):
            yield from nodes(getattr(thing, field.name))


def body(statements: list[str]) -> tuple[s.Stmt, ...]:
    """What these statements are, each parsed from its text."""
    (routine,) = parse(Source("again", "routine R() {\n" + "\n".join(statements) + "\n}")).items
    assert isinstance(routine, s.Routine)
    return routine.body.body


def models() -> list[Any]:
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in FILES]


def check(model: s.Model) -> None:
    found = list(nodes(model.items))
    of = {kind: [n for n in found if isinstance(n, kind)] for kind in (get_args(s.Expr), get_args(s.Type), s.Block)}
    again = body([f"f({n.span.text});" for n in of[get_args(s.Expr)]])
    assert [c.call.args[0] for c in again if isinstance(c, s.CallStmt)] == of[get_args(s.Expr)]
    again = body([f"{n.span.text} v;" for n in of[get_args(s.Type)]])
    assert [d.type for d in again if isinstance(d, s.Declare)] == of[get_args(s.Type)]
    assert list(body([n.span.text for n in of[s.Block]])) == of[s.Block]
    for node in found:
        text = node.span.text
        if isinstance(node, HEADS):
            (head,) = body([f"{text} {{ }}"])
            assert type(head) is type(node)
            assert text.endswith(")")
        elif type(node) in WORDS:
            assert text == WORDS[type(node)]
        elif isinstance(node, NAMED):
            assert text.strip('"') == node.name
        elif isinstance(node, s.Index):
            assert f"{text[0]}{text[-1]}" == "[]"
        elif isinstance(node, s.Label):
            assert text.rstrip(" :") == node.name
    simple = [
        n for n in found if isinstance(n, get_args(s.Stmt)) and not isinstance(n, (*HEADS, *WORDS, s.Block, s.Label))
    ]
    assert list(body([statement(n) for n in simple])) == simple


def statement(node: s.Stmt) -> str:
    """The text of a statement with its `;`; the type stands before the first of several names."""
    text = f"{node.span.text};"
    alone = not isinstance(node, s.Declare) or node.span.start == node.type.span.start
    return text if alone else f"{node.type.span.text} {text}"


@pytest.mark.parametrize("path", models())
def test_the_text_of_a_place_is_what_stands_there(path: Path) -> None:
    check(parse(Source(path.name, path.read_text(encoding="utf-8"))))


def test_so_it_is_for_every_kind_of_node() -> None:
    model = parse(Source("everything", EVERYTHING))
    met = {type(node) for node in nodes(model.items)}
    assert {*get_args(s.Expr), *get_args(s.Type), *get_args(s.Stmt)} <= met
    check(model)
