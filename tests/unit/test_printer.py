"""One layout, in which comments stay where they belong."""

from __future__ import annotations

import pytest

from modelcheck.parser import parse
from modelcheck.printer import WIDTH, print_model
from modelcheck.source import Source


def printed(text: str) -> str:
    return print_model(parse(Source("m.drvm", text)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lock  L:K ;lock M[3]:K ordered in paged;", "lock L : K;\nlock M[3] : K ordered in paged;\n"),
        ("routine R(KIRQL &k){k=1;}", "routine R(out KIRQL k) {\n    k = 1;\n}\n"),
        ("routine R() { x = x + 1; }", "routine R() {\n    x++;\n}\n"),
        ("routine R() { x = ((a || b)) && !(c == d); }", "routine R() {\n    x = (a || b) && !(c == d);\n}\n"),
        ("routine R() { int 0..3 a, b = 2; }", "routine R() {\n    int 0..3 a;\n    int 0..3 b = 2;\n}\n"),
        ("event A;\n\n\n\nevent B;", "event A;\n\nevent B;\n"),
        ("routine R() { }\nroutine S() { }", "routine R() {\n}\n\nroutine S() {\n}\n"),
        ("routine R() { cost 1000ns; cost 1.5ms; }", "routine R() {\n    cost 1us;\n    cost 1500us;\n}\n"),
    ],
)
def test_there_is_one_layout(text: str, expected: str) -> None:
    assert printed(text) == expected
    assert printed(expected) == expected


def test_comments_stay_at_what_they_belong_to() -> None:
    text = (
        "// The driver.\n"
        "driver d;  // its name\n"
        "\n"
        "device Port {\n"
        "    // one for each port\n"
        "    lock Lock : K;  /* here */\n"
        "    // no data yet\n"
        "}\n"
        "\n"
        "// Reads.\n"
        "routine R() {\n"
        "    // first\n"
        "    if (x) {  // sometimes\n"
        "        f();\n"
        "        // done\n"
        "    } else {\n"
        "        // nothing\n"
        "    }\n"
        "\n"
        "    // last\n"
        "}\n"
        "// end\n"
    )
    assert printed(text) == text


def test_what_is_too_long_is_broken_at_blanks() -> None:
    args = ", ".join(f"argument_number_{i}" for i in range(12))
    lines = printed(f"routine R() {{ f({args}); }}").splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert printed("\n".join(lines)).splitlines() == lines


def test_a_long_head_has_one_clause_a_line() -> None:
    clauses = " ".join(f"requires held(SomeQuiteLongLockName{i})" for i in range(4))
    assert printed(f"routine R() {clauses} {{ }}").count("\n        requires ") == 4


def test_block_comments_of_several_lines_keep_their_stars_in_a_column() -> None:
    assert printed("routine R() {\n/* one\n * two\n */\nf(); }") == (
        "routine R() {\n    /* one\n     * two\n     */\n    f();\n}\n"
    )
