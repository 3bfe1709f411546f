"""`modelcheck baseline`: violations that are accepted, written down and shown."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from modelcheck.cli.arguments import Commands
from modelcheck.cli.terminal import complain
from modelcheck.cli.verify import add_flags

DEFAULT = "baseline.toml"


def add(commands: Commands) -> None:
    baseline = commands.add_parser("baseline", help="accept the violations that are there: write, show")
    actions = baseline.add_subparsers(title="actions", metavar="ACTION", required=True)
    write = actions.add_parser(
        "write",
        help="verify, and write down every violation",
        description=f"Takes the arguments of `verify`; --baseline names the file (default: {DEFAULT}).",
    )
    add_flags(write)
    write.set_defaults(run=run_write)
    show = actions.add_parser("show", help="show what a baseline accepts")
    show.add_argument("file", metavar="FILE", nargs="?", help=f"default: that of the settings, or {DEFAULT}")
    show.set_defaults(run=run_show)


def run_write(options: argparse.Namespace) -> int:
    from modelcheck.cli.verify import Verification
    from modelcheck.gate.baseline import read, violations, written
    from modelcheck.gate.settings import effective
    from modelcheck.report.outcome import Exit, overall
    from modelcheck.report.paths import write_whole

    settings = {name: value.value for name, value in effective(vars(options), os.environ).items()}
    path = Path(settings["baseline"] or DEFAULT)
    before = read(path) if path.exists() else []
    settings |= {"baseline": None, "quiet": True}
    verification = Verification(settings, options.output)
    verification.reports.silent = True
    outcomes = verification.decide()
    status = overall(outcomes, False)
    if verification.interrupted or status not in (Exit.PROVED, Exit.VIOLATED):
        return complain(f"{path} was not written: not every file has its verdicts", _code(verification, status))
    found = violations(outcomes)
    write_whole(path, written(found, [*before]))
    print(f"wrote {path}: {len(found)} violations accepted")
    return 0


def _code(verification: Any, status: Any) -> int:
    from modelcheck.report.outcome import Exit

    return int(Exit.INTERRUPTED if verification.interrupted else status)


def run_show(options: argparse.Namespace) -> int:
    import datetime

    from modelcheck.gate.baseline import read
    from modelcheck.gate.settings import effective

    name = options.file or effective({}, os.environ)["baseline"].value or DEFAULT
    entries = read(Path(name))
    today = datetime.date.today()
    for entry in entries:
        until = f" until {entry.expires}" if entry.expires else ""
        over = " (over: it fails)" if entry.expires and entry.expires < today else ""
        print(f"{entry}{until}{over}")
        if entry.reason:
            print(f"    {entry.reason}")
    print(f"{len(entries)} accepted violations in {name}")
    return 0
