"""`modelcheck fmt`: models in the standard layout."""

from __future__ import annotations

import argparse
from pathlib import Path

from modelcheck.cli.arguments import Commands, add_width
from modelcheck.cli.terminal import show_rejected


def add(commands: Commands) -> None:
    fmt = commands.add_parser("fmt", help="write models in the standard layout")
    fmt.add_argument("paths", metavar="FILE", nargs="+")
    fmt.add_argument("--check", action="store_true", help="change nothing; exit with 1 if something would change")
    add_width(fmt)
    fmt.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from modelcheck.report.paths import existing_file

    changed = refused = False
    for path in [existing_file(name) for name in options.paths]:
        done = _format(path, options)
        refused |= done is None
        changed |= bool(done)
    return 2 if refused else int(changed and options.check)


def _format(path: Path, options: argparse.Namespace) -> bool | None:
    """Whether a file differs from the standard layout, which is written unless `--check`; None: refused."""
    from modelcheck.diagnostics import Rejected
    from modelcheck.parser import parse
    from modelcheck.printer import print_model
    from modelcheck.report.paths import write_whole
    from modelcheck.resolve import read_source
    from modelcheck.source import Source

    try:
        model = parse(read_source(path))
    except Rejected as error:
        show_rejected(error.diagnostics, options.width)
        return None
    text = print_model(model)
    if parse(Source(str(path), text, path)) != model:
        raise AssertionError(f"printing {path} changes what it says")
    if path.read_bytes() == text.encode("utf-8"):
        return False
    if not options.check:
        write_whole(path, text)
    print(f"{'would change' if options.check else 'changed'} {path}")
    return True
