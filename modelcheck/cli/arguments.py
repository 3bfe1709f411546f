"""Arguments that several commands have, and how their values are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

EXIT_STATUSES = """\
exit status:
  0  everything asked for was checked and proved
  1  something is violated
  2  wrong usage, configuration or model
  3  nothing violated, but something unknown
  4  internal error
  5  nothing was checked
The worst one wins, in the order 4, 2, 1, 3, 5, 0.
"""


def add_width(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--width", metavar="N", type=columns, help="columns of text (default: the terminal's, or 80)")


def _flag(reader: str) -> Callable[[str], Any]:
    """Reads a flag as `gate.settings` reads the setting: the function there of that name."""

    def read(text: str) -> Any:
        from modelcheck.gate import settings

        try:
            return getattr(settings, reader)(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


properties = _flag("read_properties")
seconds = _flag("read_seconds")
columns = _flag("read_columns")
steps = _flag("read_budget")
jobs = _flag("read_jobs")
report_format = _flag("read_format")
