"""`modelcheck export`: a model in the language of another tool."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from modelcheck.cli.arguments import Commands
from modelcheck.cli.terminal import complain, show_rejected
from modelcheck.record import dataclass

if TYPE_CHECKING:
    from modelcheck.resolve import Program

FORMS = ("promela", "smt2", "vmt")
EPILOG = """\
exit status:
  0  everything was written
  2  wrong usage or model, or something the other language cannot say
  4  internal error
  5  there is nothing to export
"""


def add(commands: Commands) -> None:
    export = commands.add_parser(
        "export",
        help="write scenarios in Promela, routines as Horn clauses or transition systems",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("path", metavar="FILE")
    export.add_argument(
        "--to", choices=FORMS, required=True, help="promela: each scenario; smt2: Horn clauses; vmt: each root"
    )
    export.add_argument("-o", "--output", metavar="FILE", help="where to (default: the terminal)")
    export.add_argument("--scenario", metavar="NAME", help="promela: only this scenario")
    export.add_argument("--root", metavar="ROUTINE", help="smt2, vmt: only this routine")
    export.add_argument(
        "--obligation", metavar="ID", action="append", default=[], help="smt2, vmt: only this one, as `list` names it"
    )
    export.add_argument("--points", action="store_true", help="smt2: a relation for each location, no large blocks")
    export.set_defaults(run=run, width=None)


@dataclass(frozen=True, slots=True)
class Exported:
    """A text with what its file is called after, where there are several."""

    name: str
    text: str


def run(options: argparse.Namespace) -> int:
    from modelcheck.diagnostics import Rejected
    from modelcheck.export.refusal import NotExportable
    from modelcheck.pipeline import load
    from modelcheck.report.paths import existing_file, must_be_writable

    path = existing_file(options.path)
    if options.output:
        must_be_writable([options.output], None)
    try:
        program, _ = load(path)
        exported = list(_scenarios(program, options) if options.to == "promela" else _roots(program, options))
    except Rejected as error:
        show_rejected(error.diagnostics, options.width)
        return 2
    except NotExportable as error:
        return complain(f"{options.path}: cannot be exported: {error}", 2)
    if not exported:
        return complain(f"{options.path}: nothing to export: {_nothing(options)}", 5)
    return _write(exported, options)


def _scenarios(program: Program, options: argparse.Namespace) -> Iterator[Exported]:
    """
    Raises:
        NotExportable: Promela cannot say it.
        Usage: there is no such scenario.
    """
    from modelcheck.export.promela import promela
    from modelcheck.lower.closed import lower_scenario
    from modelcheck.report.paths import Usage

    if options.scenario is not None and options.scenario not in program.scenarios:
        raise Usage(f"{options.path}: no scenario {options.scenario!r}")
    for name, scenario in program.scenarios.items():
        if options.scenario in (None, name):
            yield Exported(name, promela(lower_scenario(program, scenario)))


def _roots(program: Program, options: argparse.Namespace) -> Iterator[Exported]:
    """
    Raises:
        NotExportable: a root calls what no model knows, or itself, or is too large.
        Usage: there is no such routine or obligation.
    """
    from modelcheck.export.horn import horn
    from modelcheck.export.root import lives, single, system
    from modelcheck.export.vmt import vmt
    from modelcheck.lower import lower
    from modelcheck.report.paths import Usage

    lowered = lower(program)
    if options.root is not None and all(root.routine != options.root for root in lowered.roots):
        raise Usage(f"{options.path}: no routine {options.root!r} that the system starts")
    found = single(lowered)
    known = {lowered.obligations[number].id for number in found}
    for wanted in options.obligation:
        if wanted not in known:
            raise Usage(f"{options.path}: no obligation {wanted!r} that one routine alone can break")
    numbers = [n for n in found if not options.obligation or lowered.obligations[n].id in options.obligation]
    met = {root for number in numbers for root in found[number]}
    roots = [root for root in lowered.roots if root in met and options.root in (None, root.routine)]
    if not roots:
        return
    starts = lives(lowered)
    systems = [system(lowered, root, (n for n in numbers if root in found[n]), starts[root]) for root in roots]
    if options.to == "smt2":
        yield Exported("", horn(systems, blocks=not options.points))
        return
    asked = {number: lowered.obligations[number] for number in numbers}
    for made in systems:
        yield Exported(made.root.routine, vmt(made, asked))


def _nothing(options: argparse.Namespace) -> str:
    if options.to == "promela":
        return "it has no scenario"
    return "no routine alone can break anything that was asked for"


def _write(exported: list[Exported], options: argparse.Namespace) -> int:
    """Each text into its file, or the only one to the terminal.

    Raises:
        Usage: several texts and no name for files, or a file cannot be written.
    """
    from modelcheck.report.paths import Usage, write_whole

    if options.output is None:
        if len(exported) > 1:
            names = ", ".join(one.name for one in exported)
            chosen = "--scenario" if options.to == "promela" else "--root"
            raise Usage(f"{options.path}: several to export ({names}): choose with {chosen}, or name a file with -o")
        print(exported[0].text, end="")
        return 0
    output = Path(options.output)
    for one in exported:
        file = output if len(exported) == 1 else output.with_stem(f"{output.stem}-{one.name}")
        write_whole(file, one.text)
        print(file)
    return 0
