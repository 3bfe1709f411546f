"""`modelcheck draw`: traces, the order of locks, waits and control flow as pictures."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from modelcheck.cli.arguments import Commands, properties, seconds
from modelcheck.cli.terminal import complain, say, show_rejected
from modelcheck.record import dataclass

if TYPE_CHECKING:
    from modelcheck.draw import Picture
    from modelcheck.verdict import Report

MOST = 12
"""Cycles that are drawn."""
EPILOG = """\
exit status:
  0  every picture was written
  2  wrong usage or model, or no Graphviz on this machine (then .dot is written)
  4  internal error
  5  there is nothing to draw
"""


def add(commands: Commands) -> None:
    draw = commands.add_parser(
        "draw",
        help="draw counterexamples, the lock hierarchy, control flow",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    draw.add_argument("path", metavar="FILE")
    draw.add_argument("--trace", action="store_true", help="each violation, in lanes (the default)")
    draw.add_argument("--order", action="store_true", help="the lock hierarchy; where there is none, the cycles")
    draw.add_argument("--waits", action="store_true", help="who waits for whom at each deadlock")
    draw.add_argument("--cfg", metavar="ROUTINE", help="the routine's control flow, the failing path marked")
    draw.add_argument(
        "-o", "--output", metavar="FILE", help="by extension: .svg, .png, .pdf, .dot (default: FILE with .svg, here)"
    )
    draw.add_argument("--only", metavar="CODE,..", type=properties, default=frozenset(), help="only these properties")
    draw.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, help="give up on a question to the solver after that long"
    )
    draw.set_defaults(run=run, width=None)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture with what its file is called after, where there are several: `trace-2`, `cfg-Read`."""

    name: str
    picture: Picture


def run(options: argparse.Namespace) -> int:
    from modelcheck.diagnostics import Rejected
    from modelcheck.report.paths import existing_file, must_be_writable

    path = existing_file(options.path)
    output = Path(options.output or f"{path.stem}.svg")
    form = _form(output)
    must_be_writable([str(output)], None)
    try:
        pictures = list(_pictures(path, options))
    except Rejected as error:
        show_rejected(error.diagnostics, options.width)
        return 2
    if not pictures:
        return complain(f"{options.path}: nothing to draw: {_nothing(options)}", 5)
    files = [output if len(pictures) == 1 else output.with_stem(f"{output.stem}-{p.name}") for p in pictures]
    return _write(pictures, files, form)


def _form(output: Path) -> str:
    """
    Raises:
        Usage: nothing can be drawn as that.
    """
    from modelcheck.draw import FORMATS
    from modelcheck.report.paths import Usage

    form = output.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise Usage(f"cannot draw {output}: use one of {', '.join('.' + known for known in FORMATS)}")
    return form


def _pictures(path: Path, options: argparse.Namespace) -> Iterator[Drawn]:
    """What was asked for, in the order trace, order, waits, control flow.

    Raises:
        Rejected: the model is wrong.
        Usage: there is no such routine.
    """
    from modelcheck.draw import cycles, trace_picture, waits_picture
    from modelcheck.pipeline import Options, verify
    from modelcheck.report.run import cases

    limits = {} if options.timeout is None else {"timeout": options.timeout}
    report = verify(path, Options(only=options.only, **limits))
    found = tuple(cases(report))
    if options.trace or not (options.order or options.waits or options.cfg):
        for case in found:
            yield Drawn(f"trace-{case.number}", trace_picture(case))
    if options.order:
        yield from _order(report)
    if options.waits:
        rings = cycles(found)
        for case, more in rings[:MOST]:
            yield Drawn(f"waits-{case.number}", waits_picture(case, more))
        if len(rings) > MOST:
            say(f"{len(rings) - MOST} more deadlocks are not drawn")
    if options.cfg:
        yield _flow(path, options.cfg, report)


def _order(report: Report) -> Iterator[Drawn]:
    """The hierarchy, or the cycles there are instead."""
    from modelcheck.draw import cycle_picture, cycles, hierarchy_picture
    from modelcheck.report.run import cases

    if report.hierarchy is not None and report.hierarchy.ranks:
        yield Drawn("order", hierarchy_picture(report.hierarchy, report.driver))
        return
    found = cycles(cases(report))
    for case, more in found[:MOST]:
        yield Drawn(f"order-{case.number}", cycle_picture(case, more))
    if len(found) > MOST:
        say(f"{len(found) - MOST} more cycles are not drawn")


def _flow(path: Path, routine: str, report: Report) -> Drawn:
    from modelcheck.draw import flow_picture
    from modelcheck.draw.flow import case_of, graph_of
    from modelcheck.lower import lower
    from modelcheck.pipeline import load
    from modelcheck.report.paths import Usage
    from modelcheck.report.run import cases

    graph = graph_of(lower(load(path)[0]), routine)
    if graph is None:
        raise Usage(f"{path}: no routine {routine!r} that anything runs")
    return Drawn(
        f"cfg-{re.sub(r'[^A-Za-z0-9_]', '_', routine)}", flow_picture(graph, case_of(tuple(cases(report)), routine))
    )


def _nothing(options: argparse.Namespace) -> str:
    """Why there is no picture."""
    if options.order:
        return "no lock is waited for while another is held, or nothing was decided about it"
    if options.waits and not options.trace:
        return "there is no deadlock"
    return "nothing is violated"


def _write(pictures: list[Drawn], files: list[Path], form: str) -> int:
    """Every picture into its file; as DOT where the machine cannot lay out."""
    from modelcheck.draw import NoLayout, fonts_installed, render
    from modelcheck.report.paths import write_whole

    if form in ("png", "pdf") and not fonts_installed():
        say(f"this machine has no fonts: text in .{form} may be missing; .svg needs none")
    status = 0
    for drawn, file in zip(pictures, files, strict=True):
        try:
            write_whole(file, render(drawn.picture, form))
        except NoLayout as error:
            file = file.with_suffix(".dot")
            write_whole(file, drawn.picture.dot)
            say(str(error))
            status = 2
        print(f"{file}: {drawn.picture.title}")
    return status
