"""What `check` accepts and how it says what it does not; tests/rejected has the rest."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modelcheck.check import check
from modelcheck.diagnostics import Code, Diagnostic
from modelcheck.render import render
from modelcheck.resolve import resolve, resolve_text

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").rglob("*.drvm"))
KERNEL = """
lockkind SPIN { spins; }
role START { irql PASSIVE_LEVEL; thread; }
extern Acquire(lock L : SPIN, out KIRQL old) { acquire L; }
"""


def found(text: str) -> tuple[Diagnostic, ...]:
    return check(resolve_text(f"driver d;\n{KERNEL}\n{text}", folder=ROOT / "tests"))


def test_a_misspelt_name_is_suggested() -> None:
    (error,) = found("lock QueueLock : SPIN; routine R() as START { KIRQL k; Acquire(&QueueLok, &k); }")
    assert (error.code, error.help) == (Code.UNDECLARED, "did you mean `QueueLock`?")
    assert error.span is not None
    assert error.span.text == "QueueLok"


def test_arguments_of_unmodelled_routines_are_not_looked_at() -> None:
    assert found("routine R(Irp) as START { NobodyModelledThis(Irp, *, &nothing, NULL); }") == ()


def test_what_is_declared_twice_names_the_first_place() -> None:
    (error,) = found("event E;\nevent E;")
    assert error.code is Code.DECLARED_TWICE
    assert [n.span.line for n in error.notes if n.span] == [7]


def test_a_model_without_a_driver_is_told_how_to_begin() -> None:
    (error,) = check(resolve_text("event E;", "my-driver.drvm"))
    assert (error.code, error.help) == (Code.NO_DRIVER, "begin it with `driver my_driver;`")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_have_no_errors(path: Path) -> None:
    errors = [d for d in check(resolve(path)) if d.code.is_error]
    assert not errors, "\n".join(map(render, errors))


def test_nested_calls_with_many_forms_are_checked_in_no_time() -> None:
    forms = "".join(f"extern F(int 0..{i} a) : int 0..7 {{ return a; }}\n" for i in range(1, 6))
    assert found(f"{forms} routine R() as START {{ int 0..7 x = {'F(' * 60}0{')' * 60}; }}") == ()


def test_the_deepest_model_is_checked_without_overflow() -> None:
    limit = sys.getrecursionlimit()
    depth = 97
    nested = "{" * depth + f"x = {'1 + ' * depth}*;" + "}" * depth
    assert found(f"var x : int 0..7; routine R() as START {{ {nested} }}") == ()
    assert sys.getrecursionlimit() == limit


def test_thousands_of_undeclared_names_are_reported_in_no_time() -> None:
    names = "".join(f"lock Lock{i:05} : SPIN;\n" for i in range(3000))
    uses = "".join(f"read Lok{i:05};\n" for i in range(3000))
    assert len(found(f"{names} routine R() as START {{ {uses} }}")) == 3000


def test_a_rendered_finding_never_passes_control_characters_on() -> None:
    (error,) = found("routine R() as START { /* \x1b[31m \u202e */ read nothing; }")
    assert "\x1b" not in render(error)
    assert "\u202e" not in render(error)
    assert "\x1b" in render(error, colour=True)


def test_long_lines_are_cut_around_the_place() -> None:
    (error,) = found(f"routine R() as START {{ {'read_it(1); ' * 5000} read nothing; {'read_it(1); ' * 5000} }}")
    text = render(error, width=80)
    assert max(map(len, text.splitlines())) <= 100
    assert "read nothing;" in text
