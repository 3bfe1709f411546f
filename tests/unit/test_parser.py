"""Text becomes a tree or a list of errors, never a crash."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lark import Lark

from modelcheck import syntax as s
from modelcheck import tables as tables_module
from modelcheck.build import MAX_DEPTH, Builder
from modelcheck.diagnostics import Code, Diagnostic, Rejected
from modelcheck.parser import MAX_ERRORS, parse
from modelcheck.source import Source
from modelcheck.tables import grammar_text, load_tables, make_tables, methods


def model(text: str) -> s.Model:
    return parse(Source("m.drvm", text))


def errors(text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(Rejected) as rejected:
        model(text)
    return rejected.value.diagnostics


def body(text: str) -> tuple[s.Stmt, ...]:
    (routine,) = model(f"routine R() {{ {text} }}").items
    assert isinstance(routine, s.Routine)
    return routine.body.body


def places(text: str) -> list[str]:
    return [f"{d.span.line}:{d.span.column}" for d in errors(text) if d.span]


def test_the_grammar_is_free_of_conflicts_between_rules_and_between_terminals() -> None:
    Lark(grammar_text(), parser="lalr", strict=True)


def test_the_builder_has_a_method_for_each_rule() -> None:
    assert [name for name in sorted(methods(load_tables())) if not hasattr(Builder, name)] == []


def test_keywords_are_names_where_no_keyword_can_stand() -> None:
    (declared, assigned) = body("KIRQL old; old = 3;")
    assert isinstance(declared, s.Declare)
    assert declared.name == "old"
    assert isinstance(assigned, s.Assign)


def test_operators_bind_as_in_c() -> None:
    (stmt,) = body("x = !a && b || c == d + e * -f;")
    assert isinstance(stmt, s.Assign)
    match stmt.value:
        case s.Binary(s.BinaryOp.OR, s.Binary(s.BinaryOp.AND, s.Unary()), s.Binary(s.BinaryOp.EQ, _, added)):
            assert isinstance(added, s.Binary)
            assert added.op is s.BinaryOp.ADD
        case other:
            pytest.fail(repr(other))


def test_the_span_of_a_block_reaches_from_bracket_to_bracket() -> None:
    (routine,) = model("routine R() { x = 1; }").items
    assert isinstance(routine, s.Routine)
    assert routine.body.span.text == "{ x = 1; }"


def test_costs_are_exact() -> None:
    costs = [stmt for stmt in body("cost 0.1us; cost 999999999999ms; cost 7ns;") if isinstance(stmt, s.Cost)]
    assert [cost.nanoseconds for cost in costs] == [100, 999_999_999_999_000_000, 7]


@pytest.mark.parametrize(
    ("text", "message", "help_"),
    [
        ("rotuine R() {\n x = 1;\n}\n", "`rotuine` cannot stand here", "did you mean `routine`?"),
        ("routine R() {\n wihle (x) { }\n}\n", "`wihle(..)` is a call", "did you mean `while`?"),
        ("routine R() { y = 2 }", "`;` is missing here", "end the statement with `;`"),
        ("event E\nevent F;", "`;` is missing here", "end the statement with `;`"),
        ("routine R() { if (x { } }", "`)` is missing here", None),
        ("routine R() { if (x) f(); y = 1; }", "`{` is missing before this", "a body is always a block"),
        ("routine R() { g(; }", "`)` is missing here", None),
        ("routine R() {\n x = ;\n}", "`;` stands where an expression is expected", None),
        ("event E; /* x", "this comment is not closed", "write `*/`"),
        ('import "x\n;', "this text is not closed", 'write `"`'),
        ("event \0;", "the character U+0000 is not part of the language", None),
        ("routine R() {\n if (x) {\n }", "the file ends where a statement or `}` is expected", None),
    ],
)
def test_one_mistake_is_one_error_that_says_what_to_do(text: str, message: str, help_: str | None) -> None:
    (error,) = errors(text)
    assert error.code is Code.SYNTAX
    assert error.message.startswith(message)
    assert (error.help or "").startswith(help_ or "")


def test_errors_in_different_statements_are_all_found() -> None:
    text = "routine R() {\n g(;\n x = ;\n y = 2;\n if (x) return;\n z = 1\n}\nfoo bar;\nlock L KSPIN;\nevent E;\n"
    assert places(text) == ["2:4", "3:6", "5:9", "6:6", "8:1", "9:8"]


def test_a_file_that_ends_too_early_names_the_open_bracket() -> None:
    (error,) = errors("routine R() {\n if (x) {\n }\n")
    assert [note.span.line for note in error.notes if note.span] == [1]


def test_there_is_an_end_to_errors() -> None:
    assert len(errors("event 3;\n" * 1000)) <= MAX_ERRORS


@pytest.mark.parametrize(
    "text",
    [
        "{" * 10_000,
        "if (x) " + "{" * 10_000 + "}" * 10_000,
        "x = " + "(" * 10_000 + "1" + ")" * 10_000 + ";",
        "x = " + "!" * 10_000 + "y;",
        "x = " + "- " * 10_000 + "y;",
        "x = " + "y && " * 10_000 + "y;",
        "x = " + "y + " * 10_000 + "y;",
        "x = " + "f(" * 10_000 + ")" * 10_000 + ";",
        "x" + "[y" * 10_000 + "]" * 10_000 + " = 1;",
        "x = " + "old(" * 10_000 + "1" + ")" * 10_000 + ";",
    ],
    ids=range(10),
)
def test_what_is_nested_too_deep_is_refused(text: str) -> None:
    found = errors(f"routine R() {{ {text} }}")
    assert found[0].code is Code.TOO_DEEP


def test_what_is_not_nested_too_deep_is_accepted() -> None:
    depth = MAX_DEPTH - 2
    (stmt,) = body("{" * depth + "x = " + "1 + " * depth + "1;" + "}" * depth)
    assert isinstance(stmt, s.Block)


def test_long_chains_that_do_not_nest_are_accepted() -> None:
    (stmt,) = body("if (x) { } " + "else if (x) { } " * 10_000)
    assert isinstance(stmt, s.If)
    assert len(stmt.arms) == 10_001


def test_numbers_of_any_length_are_refused_in_no_time() -> None:
    (error,) = errors(f"const X = {'9' * 1000};")
    assert error.code is Code.BAD_NUMBER


def test_a_line_of_a_megabyte_without_sense_is_one_error() -> None:
    assert len(errors("$" * 1_000_000)) == 1
    assert len(errors("/*" * 500_000 + " ")) == 1


def test_the_cache_gives_back_the_same_tables(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    first = load_tables(folder)
    assert len(list(folder.iterdir())) == 1
    assert load_tables(folder) == first == make_tables(grammar_text())


def test_a_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    load_tables(folder)
    (kept,) = folder.iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", whole[:1000], whole[:-1] + bytes([whole[-1] ^ 1])):
        kept.write_bytes(damaged)
        assert load_tables(folder) == make_tables(grammar_text())
        assert kept.read_bytes() != damaged


def test_a_cache_that_others_can_write_to_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    load_tables(folder)
    folder.chmod(0o777)
    made: list[str] = []
    monkeypatch.setattr(tables_module, "make_tables", lambda grammar: made.append(grammar) or make_tables(grammar))
    load_tables(folder)
    assert len(made) == 1


def test_no_place_for_a_cache_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert load_tables(tmp_path / "file" / "cache").rules


def test_messages_name_no_internal_terminal() -> None:
    texts = ("lock", "routine R() { x[ }", "role R { irql 0; level }", "enum E { a b }", "scenario s { run }")
    for text in texts:
        for error in errors(text):
            assert not re.search(r"\b[A-Z]{4,}\b|__", error.message)
