"""`modelcheck completion`: what makes a shell complete commands and flags."""

from __future__ import annotations

import argparse

from modelcheck.cli.arguments import Commands

SHELLS = ("bash", "zsh", "tcsh")


def add(commands: Commands) -> None:
    completion = commands.add_parser("completion", help="print a completion script for a shell")
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from modelcheck.report.paths import Usage

    try:
        import shtab
    except ImportError:
        raise Usage("shtab is not installed: pip install 'modelcheck[completion]'") from None
    from modelcheck.cli.entry import command_line

    print(shtab.complete(command_line(), options.shell))
    return 0
