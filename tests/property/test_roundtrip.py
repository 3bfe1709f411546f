"""Printing and parsing are inverse: parse(print(t)) == t for every tree, and printing again changes nothing."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields, replace
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelcheck import syntax as s
from modelcheck.parser import parse
from modelcheck.printer import print_model
from modelcheck.source import Source, Span

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "models").glob("*.drvm"), *(ROOT / "examples").rglob("*.drvm")])
NOWHERE = Span(Source("generated", ""), 0, 0)
NAMES = st.sampled_from(["a", "b2", "QueueLock", "_x", "Irql", "on", "processors", "L"])
NUMBERS = st.integers(0, 2**31)
DEPTH = 2


def made(kind: type[Any], depth: int) -> st.SearchStrategy[Any]:
    """Trees of one node type."""
    return SPECIAL[kind](depth) if kind in SPECIAL else by_annotations(kind, depth)


def by_annotations(kind: type[Any], depth: int) -> st.SearchStrategy[Any]:
    """Trees of one node type, its parts by their annotations."""
    hints = get_type_hints(kind, vars(s))
    parts = {
        f.name: of(hints[f.name], depth - 1, f.name) for f in fields(kind) if f.name != "span" and f.default is MISSING
    }
    return st.builds(kind, **parts, span=st.just(NOWHERE))


def of(hint: Any, depth: int, name: str = "") -> st.SearchStrategy[Any]:
    """Values of an annotation."""
    if hint is str:
        return NAMES
    if hint is bool:
        return st.booleans()
    if hint is int:
        return NUMBERS
    if hint is type(None):
        return st.none()
    if get_origin(hint) in (Union, UnionType):
        return st.deferred(lambda: st.one_of([of(k, depth, name) for k in allowed(get_args(hint), depth)]))
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if inner[-1] is not Ellipsis:
            return st.tuples(*(of(k, depth) for k in inner))
        return st.lists(of(inner[0], depth), max_size=3 if depth > 0 else 0).map(tuple)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(list(hint))
    return st.deferred(lambda: made(hint, depth))


NESTING = {
    *(s.Unary, s.Binary, s.Call, s.Old, s.Held, s.TryAcquire, s.TryConvert, s.Index, s.NoLocks),
    *(s.Block, s.If, s.While, s.DoWhile, s.For, s.Switch, s.Try, s.Atomic),
}


def allowed(kinds: tuple[Any, ...], depth: int) -> list[Any]:
    """Without what nests once the tree is deep enough."""
    return [k for k in kinds if depth > 0 or k not in NESTING] or list(kinds)


def names(minimum: int = 1) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(NAMES, min_size=minimum, max_size=3).map(tuple)


def refs(depth: int, minimum: int = 0) -> st.SearchStrategy[tuple[s.Ref, ...]]:
    return st.lists(made(s.Ref, depth), min_size=minimum, max_size=2).map(tuple)


def nonempty(kind: Any, depth: int) -> st.SearchStrategy[Any]:
    return st.lists(of(kind, depth), min_size=1, max_size=3).map(tuple)


def build(kind: type[Any], **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(kind, **parts, span=st.just(NOWHERE))


def int_types(_: int) -> st.SearchStrategy[Any]:
    pairs = st.tuples(st.integers(-(2**31), 2**31), st.integers(-(2**31), 2**31))
    return pairs.map(lambda p: s.IntType(min(p), max(p), NOWHERE))


def lock_kinds(depth: int) -> st.SearchStrategy[Any]:
    """A recursion under the same mode is written without `under`."""
    modes = st.sampled_from([s.Mode.SHARED, s.Mode.EXCLUSIVE])
    recursion = st.lists(build(s.Recursion, mode=modes, under=modes), max_size=2).map(tuple)
    flags = {name: st.booleans() for name in ("spins", "resident", "init_required", "writers_first", "doubtful")}
    level = st.none() | of(s.Expr, depth - 1)
    field_list = st.lists(made(s.Field, depth - 1), max_size=2).map(tuple)
    return build(s.LockKind, name=NAMES, **flags, level=level, recursion=recursion, fields=field_list)


def runs(depth: int) -> st.SearchStrategy[Any]:
    """A level stands only behind a kind."""
    kinds = st.tuples(st.sampled_from(s.ContextKind), st.none() | of(s.Expr, depth - 1)) | st.just((None, None))
    args = st.lists(of(s.Expr, depth - 1), max_size=2).map(tuple)
    parts = st.tuples(NAMES, args, kinds, st.none() | st.integers(0, 64))
    return parts.map(lambda p: s.Run(p[0], p[1], p[2][0], p[2][1], p[3], NOWHERE))


def roles(depth: int) -> st.SearchStrategy[Any]:
    """The word of a role stands only behind `single`; behind a phase, that it comes again or what goes on there."""

    def fitting(role: s.Role) -> s.Role:
        again = role.again and role.phase is not None
        resumes = "" if again or role.phase is None else role.resumes
        return replace(role, among=role.among if role.single else "", again=again, resumes=resumes)

    return by_annotations(s.Role, depth).map(fitting)


def value_params(depth: int) -> st.SearchStrategy[Any]:
    """What is looked at where it is said is of an enum, and by value."""
    said = build(s.ValueParam, type=made(s.NamedType, depth), name=NAMES, by_ref=st.just(False), if_said=st.just(True))
    value = build(s.ValueParam, type=of(s.Type, depth), name=NAMES, by_ref=st.booleans(), if_said=st.just(False))
    return said | value


def enables(_: int) -> st.SearchStrategy[Any]:
    """Only what is enabled is enabled again."""
    on, off = st.just(True), st.just(False)
    again = build(s.Enable, enable=on, name=NAMES, again=st.booleans())
    return again | build(s.Enable, enable=off, name=NAMES, again=off)


SHARED_OR_EXCLUSIVE = st.sampled_from([s.Mode.SHARED, s.Mode.EXCLUSIVE])
DEVICE_MEMBER = s.LockDecl | s.DataDecl | s.VarDecl | s.EventDecl
SPECIAL: dict[type[Any], Any] = {
    s.IntType: int_types,
    s.EnumType: lambda _: build(s.EnumType, values=names()),
    s.ValueParam: value_params,
    s.Enable: enables,
    s.NamedType: lambda _: build(s.NamedType, name=NAMES),
    s.EnumDecl: lambda _: build(s.EnumDecl, name=NAMES, values=names()),
    s.If: lambda d: build(s.If, arms=nonempty(s.Arm, d - 1), otherwise=st.none() | made(s.Block, d - 1)),
    s.Held: lambda d: build(s.Held, lock=made(s.Ref, d - 1), mode=st.none() | SHARED_OR_EXCLUSIVE),
    s.Convert: lambda d: build(s.Convert, lock=made(s.Ref, d - 1), mode=SHARED_OR_EXCLUSIVE),
    s.Cost: lambda _: build(s.Cost, nanoseconds=st.integers(0, 10**11), times=st.none() | made(s.Ref, 1)),
    s.Require: lambda d: build(
        s.Require, condition=of(s.Expr, d - 1), code=NAMES, why=st.text("ab \u00e9/*{};", max_size=8)
    ),
    s.LockKind: lock_kinds,
    s.Role: roles,
    s.Run: runs,
    s.DataDecl: lambda d: build(s.DataDecl, name=NAMES, paged=st.booleans(), guards=refs(d)),
    s.VarDecl: lambda d: build(
        s.VarDecl, name=NAMES, type=of(s.Type, d - 1), value=st.none() | of(s.Expr, d - 1), guards=refs(d)
    ),
    s.Import: lambda _: build(s.Import, name=NAMES, is_path=st.booleans()),
    s.Unary: lambda d: build(s.Unary, op=st.sampled_from(s.UnaryOp), operand=of(s.Expr, d - 1)),
}

MODELS = st.lists(of(s.Item, DEPTH), max_size=4).map(lambda items: s.Model(tuple(items), NOWHERE))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(MODELS)
def test_a_printed_tree_is_parsed_back_as_it_was(model: s.Model) -> None:
    text = print_model(model)
    again = parse(Source("printed", text))
    assert again == model, text
    assert print_model(again) == text


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(of(s.Stmt, DEPTH))
def test_every_statement_is_printed_and_parsed_back(stmt: s.Stmt) -> None:
    body = s.Block((stmt,), NOWHERE)
    model = s.Model((s.Routine("r", (), None, None, (), False, body, NOWHERE),), NOWHERE)
    text = print_model(model)
    again = parse(Source("printed", text))
    assert again == model, text
    assert print_model(again) == text


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(MODELS, st.randoms(use_true_random=False))
def test_comments_anywhere_survive_and_the_printing_settles(model: s.Model, random: Any) -> None:
    """A comment in the middle of a declaration may move once more to a line of its own; then it stays."""
    words = print_model(model).split(" ")
    if any('"' in word for word in words):
        return
    count, pieces = 0, []
    for word in words:
        pieces.append(word)
        if random.random() < 0.2:
            pieces.append(f"// c{count}\n" if random.random() < 0.5 else f"/* c{count} */")
            count += 1
    text = " ".join(pieces) + "\n"
    tree = parse(Source("commented", text))
    printed = print_model(tree)
    assert sorted(re.findall(r"c\d+\b", printed)) == sorted(re.findall(r"c\d+\b", text))
    assert parse(Source("printed", printed)) == tree
    second = print_model(parse(Source("printed", printed)))
    assert parse(Source("printed", second)) == tree
    assert print_model(parse(Source("printed", second))) == second


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_model_of_the_project_survives_printing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = parse(Source(path.name, text))
    printed = print_model(tree)
    assert parse(Source("printed", printed)) == tree
    assert print_model(parse(Source("printed", printed))) == printed
    assert len(re.findall(r"//", printed)) == len(re.findall(r"//", text))
