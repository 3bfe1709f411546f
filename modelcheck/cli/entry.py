"""From the words of a command line to an exit status."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence

from modelcheck.cli import (
    baseline,
    completion,
    config,
    draw,
    explain,
    export,
    fmt,
    init,
    obligations,
    order,
    recheck,
    verify,
)
from modelcheck.cli.arguments import EXIT_STATUSES
from modelcheck.cli.terminal import complain, version

COMMANDS = (verify, draw, order, obligations, explain, recheck, export, baseline, init, config, fmt, completion)
"""In the order of `--help`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. The exit status; never raises, besides `SystemExit` from argparse.

    Without `arguments` it is the whole process, which ends with its report: nobody looks for garbage in it, nor at its
    end, but for what one file leaves before the next.
    """
    if arguments is None:
        gc.disable()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = command_line().parse_args(arguments)
        code = int(options.run(options))
        sys.stdout.flush()
        if arguments is None:
            gc.freeze()
        return code
    except KeyboardInterrupt:
        return complain("interrupted", 130)
    except BrokenPipeError:
        # The reader went away. Nothing more can be said on stdout, not even at the interpreter's exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return complain(f"cannot write the output: {error.strerror or error}", 2)
    except Exception as error:
        from modelcheck.report.paths import Usage

        if isinstance(error, Usage):
            return complain(str(error), 2)
        from modelcheck.gate.fault import told

        return complain(told(error), 4)


def command_line() -> argparse.ArgumentParser:
    """All commands with their arguments."""
    parser = argparse.ArgumentParser(
        prog="modelcheck",
        description="Proves or refutes that a Windows kernel driver keeps the rules of its locks and its IRQL.",
        epilog=EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser.exit(message=f"modelcheck {version()}\n")
