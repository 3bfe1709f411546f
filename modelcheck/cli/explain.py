"""`modelcheck explain`: the page of a code."""

from __future__ import annotations

import argparse
import sys

from modelcheck.cli.arguments import Commands, add_width
from modelcheck.cli.terminal import style


def add(commands: Commands) -> None:
    explain = commands.add_parser("explain", help="say what a code means, with a bad and a good example")
    explain.add_argument("code", metavar="CODE", nargs="?", help="such as B03 or E0201; without it, all codes")
    add_width(explain)
    explain.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from modelcheck.report.explain import codes, page, plain, title
    from modelcheck.report.paths import Usage

    if options.code is None:
        print("".join(f"{code}  {title(code)}\n" for code in codes()), end="")
        return 0
    found = page(options.code)
    if found is None:
        import difflib

        near = difflib.get_close_matches(options.code.upper(), codes(), 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise Usage(f"no code is called {options.code!r}{hint} `modelcheck explain` lists them all")
    print(plain(found.text, style(sys.stdout, options.width).width), end="")
    return 0
