"""Who imports whom: nothing loads Z3 that can do without it, and only the modules named here know Z3 or Lark."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelcheck

PACKAGE = Path(modelcheck.__file__).parent
ONLY_HERE = {
    "z3": {"engines", "evidence"},
    "lark": {"parser", "tables"},
    "cvc5": {"evidence"},
}


def loaded(arguments: str, folder: Path, status: int = 0) -> set[str]:
    """The modules in memory once the command line has run with these arguments and this exit status."""
    program = (
        "import sys\n"
        "from modelcheck.cli import main\n"
        "try: status = main(sys.argv[1:])\n"
        "except SystemExit as end: status = end.code or 0\n"
        "print('\\n@@', status, *sys.modules)\n"
    )
    command = [sys.executable, "-c", program, *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=True, timeout=60)
    found, *modules = done.stdout.rsplit("@@", 1)[1].split()
    assert int(found) == status
    return set(modules)


GOOD = "driver d;\n\nroutine Read(Irp) {\n    return;\n}\n"
BAD = "driver d;\nroutine Read(Irp) {\n    return\n}\n"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("--help", 0),
        ("verify --help", 0),
        ("--version", 0),
        ("explain B03", 0),
        ("explain", 0),
        ("fmt --check good.drvm", 0),
        ("verify bad.drvm", 2),
        ("verify nowhere.drvm", 2),
        ("list bad.drvm", 2),
    ],
)
def test_what_needs_no_z3_does_not_load_it(arguments: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "good.drvm").write_text(GOOD)
    (tmp_path / "bad.drvm").write_text(BAD)
    assert not loaded(arguments, tmp_path, status) & {"z3", "cvc5"}


@pytest.mark.parametrize("arguments", ["--help", "verify --help", "explain B03"])
def test_what_needs_no_parser_does_not_load_it(arguments: str, tmp_path: Path) -> None:
    assert "lark" not in loaded(arguments, tmp_path)


def imports(path: Path) -> Iterator[str]:
    """The top names a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("library", ONLY_HERE)
def test_a_library_is_known_where_it_belongs_only(library: str) -> None:
    users = {
        path.relative_to(PACKAGE).with_suffix("").parts[0] for path in PACKAGE.rglob("*.py") if library in imports(path)
    }
    assert users <= ONLY_HERE[library]
