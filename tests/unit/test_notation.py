"""The notation of the conformance cases."""

import json
from pathlib import Path

import pytest

from tests.conformance.notation import (
    Atomic,
    Check,
    Claim,
    Condition,
    If,
    Loop,
    Malformed,
    Op,
    Try,
    operations,
    parse_condition,
    parse_ops,
    parse_text,
    read_case,
)

CASES = json.loads((Path(__file__).parents[1] / "conformance" / "cases.json").read_text("utf-8"))
ANY = Condition(None)


def test_operations_are_separated_by_semicolons() -> None:
    assert parse_text("acquire(L);release(L)") == (Op("acquire", ("L",)), Op("release", ("L",)))


def test_spacing_and_stray_semicolons_do_not_matter() -> None:
    spaced = " ; acquire( L , s ) ;\n if ( v == 1 ) { return ; } else { } ;; loop(*) { nop } "
    assert parse_text(spaced) == parse_text("acquire(L,s);if(v==1){return}else{};loop(*){nop}")


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("*", ANY),
        ("v", Condition("v", "!=", 0)),
        ("!v", Condition("v", "==", 0)),
        ("! v", Condition("v", "==", 0)),
        ("v == 3", Condition("v", "==", 3)),
        ("v!=-1", Condition("v", "!=", -1)),
        ("(v)", Condition("v", "!=", 0)),
        ("init:L", Condition("init:L", "!=", 0)),
        ("1", Condition(None, "==", 1)),
    ],
)
def test_conditions(text: str, condition: Condition) -> None:
    assert parse_condition(text) == condition


def test_a_missing_else_is_an_empty_one() -> None:
    assert parse_text("if(*){return}") == parse_text("if(*){return}else{}") == (If(ANY, (Op("return"),), ()),)


def test_else_if_nests() -> None:
    inner = If(Condition("b", "!=", 0), (Op("nop"),), (Op("return"),))
    assert parse_text("if(a){}else if(b){nop}else{return}") == (If(Condition("a", "!=", 0), (), (inner,)),)


def test_nested_blocks() -> None:
    text = "loop(*){atomic{assume(!f);inc(n)};if(*){loop(n!=2){dec(n)}}}"
    atomic = Atomic((Check(False, Condition("f", "==", 0)), Op("inc", ("n",))))
    inner = Loop(Condition("n", "!=", 2), (Op("dec", ("n",)),))
    assert parse_text(text) == (Loop(ANY, (atomic, If(ANY, (inner,), ()))),)


def test_try_has_a_branch_for_each_outcome() -> None:
    text = "try_acquire_dpc(L){release_dpc(L)}else{return}"
    assert parse_text(text) == (Try(Op("try_acquire_dpc", ("L",)), (Op("release_dpc", ("L",)),), (Op("return"),)),)
    assert parse_text("try_mutex(M);nop") == (Try(Op("try_mutex", ("M",)), (), ()), Op("nop"))


@pytest.mark.parametrize("text", ["acquire(L", "if(*){", "}", "acquire(L) x", "if(a<b){}", "assert()", "(x)"])
def test_what_is_not_in_the_notation_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_text(text)


def test_text_and_ops_say_the_same() -> None:
    for case in CASES:
        for routine in [*case["contexts"], *case["routines"].values()]:
            assert parse_text(routine["text"]) == parse_ops(routine["ops"]), case["id"]


def test_a_case_without_text_is_read_from_its_ops() -> None:
    case = read_case(
        {
            "id": "x",
            "contexts": [{"name": "t", "ops": [{"try_acquire_dpc": "L", "then": ["release_dpc(L)"], "else": []}]}],
            "properties": [{"name": " held_at_exit( L ) ", "verdict": False, "needs": "a"}],
        }
    )
    assert [op.name for op in operations(case.contexts[0].body)] == ["try_acquire_dpc", "release_dpc"]
    assert case.claims == (Claim("held_at_exit", "L", False, "a"),)
    assert case.contexts[0].irql == "PASSIVE"
