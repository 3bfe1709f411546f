"""`modelcheck list`: what would be decided about a model."""

from __future__ import annotations

import argparse
import sys

from modelcheck.cli.arguments import Commands, add_width
from modelcheck.cli.terminal import show_rejected, style


def add(commands: Commands) -> None:
    listing = commands.add_parser("list", help="list the obligations of a model")
    listing.add_argument("path", metavar="FILE")
    listing.add_argument("--strict", action="store_true", help="also D04: locks in one order, deadlock or not")
    add_width(listing)
    listing.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from modelcheck.diagnostics import Rejected
    from modelcheck.report.paths import existing_file
    from modelcheck.report.text import obligations_list

    path = existing_file(options.path)
    try:
        from modelcheck.pipeline import obligations

        found = obligations(path, options.strict)
    except Rejected as error:
        show_rejected(error.diagnostics, options.width)
        return 2
    print(obligations_list(((o.id, o.why) for o in found), style(sys.stdout, options.width)), end="")
    print(f"{len(found)} obligations")
    return 0 if found else 5
