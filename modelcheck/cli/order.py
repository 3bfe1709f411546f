"""`modelcheck order`: the lock hierarchy of a driver, where it is proved to have one."""

from __future__ import annotations

import argparse
import sys

from modelcheck.cli.arguments import Commands, add_width
from modelcheck.cli.terminal import say, show_rejected, style

MEETINGS = frozenset({"D01", "D02"})


def add(commands: Commands) -> None:
    order = commands.add_parser("order", help="the order in which a driver takes its locks, as text or as SAL")
    order.add_argument("path", metavar="FILE")
    order.add_argument("--sal", action="store_true", help="as SAL annotations: lock levels and their order")
    add_width(order)
    order.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from modelcheck.diagnostics import Rejected
    from modelcheck.report.outcome import Outcome, overall
    from modelcheck.report.paths import existing_file
    from modelcheck.report.sal import annotated, sal
    from modelcheck.report.text import hierarchy

    path = existing_file(options.path)
    try:
        from modelcheck.pipeline import Options, load, verify

        loaded = load(path)
        report = verify(path, Options(only=MEETINGS), loaded)
    except Rejected as error:
        show_rejected(error.diagnostics, options.width)
        return 2
    status = overall([Outcome(str(path), report)], True)
    if report.hierarchy is None:
        say(f"{path}: the locks are not proved to have an order; see modelcheck verify --only D01,D02 {path}")
    elif not report.hierarchy.ranks:
        say(f"{path}: no lock is waited for")
    else:
        text = (
            sal(report.hierarchy, annotated(loaded[0]))
            if options.sal
            else hierarchy(report.hierarchy, style(sys.stdout, options.width)) + "\n"
        )
        print(text, end="")
    return int(status)
