"""Files become one program; imports go nowhere they should not."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelcheck import syntax as s
from modelcheck.diagnostics import Code, Rejected
from modelcheck.resolve import (
    MAX_IMPORT_DEPTH,
    Program,
    around_run,
    find_role,
    resolve,
    resolve_text,
    shipped_models,
    type_range,
)


def program(text: str) -> Program:
    return resolve_text(f"driver d;\n{text}")


def codes(path: Path) -> list[Code]:
    with pytest.raises(Rejected) as rejected:
        resolve(path)
    return [d.code for d in rejected.value.diagnostics]


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.drvm").write_text(text, encoding="utf-8")
    return folder / "main.drvm"


def test_members_and_interrupt_locks_have_qualified_names() -> None:
    found = program("device P { lock L : K; data D guarded by L; var v : bool; event E; }\ninterrupt Line at DIRQL;")
    assert list(found.locks) == ["P.L", "Line.lock"]
    assert found.locks["Line.lock"].kind == "KINTERRUPT"
    assert found.locks["Line.lock"].initialised
    assert (list(found.data), list(found.variables), list(found.events)) == (["P.D"], ["P.v"], ["P.E"])
    (guard,) = found.data["P.D"].guards
    assert (guard.name, [x.name for x in guard.selectors if isinstance(x, s.Member)]) == ("P", ["L"])


def test_constants_are_computed_in_order() -> None:
    found = program("const A = 2; const B = A * 3 - 1 == 5; enum e { x, y } const C = y + DIRQL;")
    assert (found.constants["A"], found.constants["B"], found.constants["C"]) == (2, 1, 6)


def test_settings_take_the_value_of_the_driver() -> None:
    found = program("setting a : bool = false; setting b : enum { p, q } = p; setting b = q;")
    assert (found.setting("a"), found.setting("b")) == (0, 1)


def test_settings_and_levels_in_a_circle_come_to_an_end() -> None:
    found = program("setting a : bool = !b; setting b : bool = !a; interrupt I at J.level; interrupt J at I.level;")
    assert found.setting("a") == 0
    assert found.constant(found.interrupts["I"].level) is None


HELD = """lockkind K {{ recursive shared; }} lock Of_A : K; lock Of_B : K; lock Of_C : K; lock Of_D : K; lock Own : K;
role WORK(lock L : K) {{ irql 0; thread; holds Of_A, Of_B; holds Of_C, Of_D, L; }}
extern WaitForA(int 0..1 x) {{ acquire Of_A; release Of_A; }} extern WaitForA(lock L : K) {{ acquire L; release L; }}
extern WaitForB() {{ if (*) {{ WaitForA(Own); WaitForA(0); }} acquire Of_B; release Of_B; }}
extern AskForC() {{ require !held(Of_C) else C03 "not from there"; }}
extern TryD() : bool {{ bool t = try_acquire Of_D; if (t) {{ release Of_D; }} return t; }}
extern IsC() requires held(Of_C);
routine R() as WORK(Own) {{ {body} }}
"""


@pytest.mark.parametrize(
    ("body", "held"),
    [
        ("", []),
        ("WaitForA(0);", ["Of_A"]),
        ("while (*) { WaitForB(); }", ["Of_A", "Of_B"]),
        ("AskForC();", ["Of_C"]),
        ("IsC();", ["Of_C"]),
        ("if (TryD()) { }", ["Of_D"]),
        ("assert !held(Of_C);", ["Of_C"]),
    ],
)
def test_a_run_holds_the_locks_of_its_role_that_somebody_uses(body: str, held: list[str]) -> None:
    """In the order of the role, whatever form uses them; a lock that is given to the role always."""
    found = program(HELD.format(body=body))
    assert found.routines["R"].role is not None
    role, _ = find_role(found, found.routines["R"].role)
    taken, given_back = around_run(found, found.routines["R"], role)
    assert [(x.lock.name, x.mode) for x in taken if isinstance(x, s.Acquire)] == [
        (name, s.Mode.SHARED) for name in (*held, "L")
    ]
    assert [x.lock.name for x in given_back if isinstance(x, s.Release)] == ["L", *reversed(held)]


def test_ranges_of_types() -> None:
    found = program("enum e { x, y, z } var a : e; var b : KIRQL; var c : int -3..4; var d_ : counter 3; var f : bool;")
    ranges = [type_range(found, v.type) for v in found.variables.values()]
    assert ranges == [(0, 2), (0, 32), (-3, 4), (0, 3), (0, 1)]


def test_the_role_is_chosen_by_its_arguments() -> None:
    found = program(
        "role R { irql 0; thread; } role R(POWER) { irql 1; thread; } role R(interrupt I) { irql 2; isr; }\n"
        "interrupt Line at 5;\n"
        "routine A() as R { } routine B() as R(POWER) { } routine C() as R(Line) { } routine D() as R(X) { }"
    )
    levels = []
    for name in "ABC":
        use = found.routines[name].role
        assert use is not None
        role, arguments = find_role(found, use)
        assert role.irql is not None
        levels.append((found.constant(role.irql[0]), list(arguments)))
    assert levels == [(0, []), (1, []), (2, ["I"])]
    unknown = found.routines["D"].role
    assert unknown is not None
    with pytest.raises(KeyError):
        find_role(found, unknown)


def test_files_are_imported_once_and_belong_to_the_user(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main='driver main; import "a.drvm"; import "b.drvm"; lock M : K;',
        a='import "b.drvm"; lock A : K;',
        b="lock B : K;",
    )
    found = resolve(main)
    assert (found.driver, list(found.locks), len(found.own)) == ("main", ["B", "A", "M"], 3)


def test_a_file_below_may_import_one_above_within_the_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    main = write(tmp_path, main='driver d; import "sub/x.drvm";', top="event E;")
    write(tmp_path / "sub", x='import "../top.drvm";')
    assert list(resolve(main).events) == ["E"]


def test_a_path_may_be_written_as_on_windows(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    main = write(tmp_path, main='driver d; import "sub\\x.drvm";')
    write(tmp_path / "sub", x="event E;")
    assert list(resolve(main).events) == ["E"]


@pytest.mark.parametrize(
    "name", ["../x.drvm", "/etc/passwd", "sub/../../x.drvm", "a\0b", "..\\x.drvm", "C:x", "\\\\a\\b"]
)
def test_imports_do_not_leave_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "x.drvm").write_text("event E;")
    folder = tmp_path / "inner"
    folder.mkdir()
    assert codes(write(folder, main=f'driver d; import "{name}";')) == [Code.IMPORT_OUTSIDE]


def test_a_symbolic_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "x.drvm").write_text("event E;")
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "link.drvm").symlink_to(tmp_path / "x.drvm")
    assert codes(write(folder, main='driver d; import "link.drvm";')) == [Code.IMPORT_OUTSIDE]


def test_what_cannot_be_imported_is_said(tmp_path: Path) -> None:
    main = write(tmp_path, main='driver d; import wmd; import "qeue.drvm"; import "main.drvm";', queue="event E;")
    with pytest.raises(Rejected) as rejected:
        resolve(main)
    found = rejected.value.diagnostics
    assert [d.code for d in found] == [Code.NO_SUCH_IMPORT, Code.NO_SUCH_IMPORT, Code.CYCLIC_IMPORT]
    assert found[1].help == "did you mean `queue.drvm`?"
    assert "wdm" not in shipped_models() or found[0].help == "did you mean `wdm`?"


def test_a_circle_of_imports_is_an_error(tmp_path: Path) -> None:
    main = write(tmp_path, main='driver d; import "a.drvm";', a='import "b.drvm";', b='import "a.drvm";')
    assert codes(main) == [Code.CYCLIC_IMPORT]


def test_a_long_chain_of_imports_is_refused(tmp_path: Path) -> None:
    texts = {f"f{i}": f'import "f{i + 1}.drvm";' for i in range(MAX_IMPORT_DEPTH + 5)}
    assert codes(write(tmp_path, main='driver d; import "f0.drvm";', **texts)) == [Code.TOO_DEEP]


def test_errors_of_all_files_come_in_one_run(tmp_path: Path) -> None:
    main = write(tmp_path, main='driver d; import "a.drvm"; import "b.drvm";', a="lock;", b="event;")
    assert codes(main) == [Code.SYNTAX, Code.SYNTAX]


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"driver d;\n// \xff", Code.NOT_UTF8), (b"", Code.EMPTY), (b"// nothing\n", Code.EMPTY), (b"\0", Code.SYNTAX)],
)
def test_files_that_are_no_models_are_refused(tmp_path: Path, content: bytes, code: Code) -> None:
    path = tmp_path / "x.drvm"
    path.write_bytes(content)
    assert codes(path) == [code]


def test_a_byte_order_mark_is_no_part_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / "x.drvm"
    path.write_bytes(b"\xef\xbb\xbfdriver d;\r\nevent E;\r\n")
    assert list(resolve(path).events) == ["E"]


def test_folders_and_missing_files_are_unreadable(tmp_path: Path) -> None:
    assert codes(tmp_path) == [Code.UNREADABLE]
    assert codes(tmp_path / "none.drvm") == [Code.UNREADABLE]
    assert codes(tmp_path / ("n" * 5000)) == [Code.UNREADABLE]


def test_files_beyond_the_limit_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelcheck.resolve.MAX_FILE_BYTES", 10)
    path = tmp_path / "x.drvm"
    path.write_text("driver d; event E;")
    assert codes(path) == [Code.TOO_LARGE]
