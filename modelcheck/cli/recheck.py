"""`modelcheck recheck`: certificates checked again in another solver."""

from __future__ import annotations

import argparse
from pathlib import Path

from modelcheck.cli.arguments import Commands
from modelcheck.cli.terminal import complain


def add(commands: Commands) -> None:
    recheck = commands.add_parser("recheck", help="check the certificates in a folder with another solver")
    recheck.add_argument("folder", metavar="DIR")
    recheck.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from modelcheck.report.paths import Usage

    folder = Path(options.folder)
    if not folder.is_dir():
        raise Usage(f"{options.folder}: no such folder")
    from modelcheck.evidence.recheck import recheck

    results = recheck(folder)
    if not results:
        return complain(f"{options.folder}: no certificates there", 5)
    for result in results:
        print(result)
    return 4 if any(result.problem for result in results) else 0
