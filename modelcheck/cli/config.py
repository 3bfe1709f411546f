"""`modelcheck config`: every setting, its value, and who said so."""

from __future__ import annotations

import argparse
import os
from typing import Any

from modelcheck.cli.arguments import Commands
from modelcheck.cli.verify import add_flags


def add(commands: Commands) -> None:
    config = commands.add_parser(
        "config", help="show the settings and where each comes from", description="Takes the arguments of `verify`."
    )
    add_flags(config)
    config.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from modelcheck.gate.settings import effective

    rows = [(name, _shown(value.value), value.origin) for name, value in effective(vars(options), os.environ).items()]
    names, values = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, value, origin in rows:
        print(f"{name:{names}}  {value:{min(values, 40)}}  {origin}")
    return 0


def _shown(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "true" if value else "false"
        case tuple() | list():
            return ", ".join(map(str, value)) or "-"
        case frozenset():
            return ", ".join(sorted(value)) or "all"
        case float():
            return f"{value:g}"
        case _:
            return str(value)
