"""`modelcheck verify`: the main job."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelcheck.cli.arguments import EXIT_STATUSES, Commands, add_width, jobs, properties, report_format, seconds, steps
from modelcheck.cli.terminal import say, show_rejected

if TYPE_CHECKING:
    from modelcheck.gate.run import Run
    from modelcheck.report.outcome import Exit, Outcome


def add(commands: Commands) -> None:
    verify = commands.add_parser(
        "verify",
        help="prove or refute the obligations of model files",
        epilog=EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(verify)
    verify.set_defaults(run=run)


def add_flags(verify: argparse.ArgumentParser) -> None:
    """The arguments of a run; each flag but `-o` can also stand in the environment or in a file of settings."""
    verify.add_argument("paths", metavar="PATH", nargs="*", help="a model, or a folder: every *.drvm below it")
    verify.add_argument(
        "--format",
        metavar="NAME[=FILE]",
        action="append",
        type=report_format,
        help="text, json, html, sarif, junit, github, markdown; several possible (default: text)",
    )
    verify.add_argument("-o", "--output", metavar="FILE", help="the report goes there, not to the terminal")
    verify.add_argument("--proofs", metavar="DIR", help="write the certificates there, for `modelcheck recheck`")
    verify.add_argument("--only", metavar="CODE,..", type=properties, help="only these properties")
    verify.add_argument(
        "--strict", action=argparse.BooleanOptionalAction, help="also D04: locks in one order, deadlock or not"
    )
    verify.add_argument("--undecided", choices=("fail", "warn"), help="warn: unknown alone is exit 0 (default: fail)")
    verify.add_argument("--baseline", metavar="FILE", help="fail only on violations that are not in there")
    verify.add_argument(
        "-q", "--quiet", action=argparse.BooleanOptionalAction, help="only what is not proved, and the closing line"
    )
    verify.add_argument(
        "--full", action=argparse.BooleanOptionalAction, help="certify every obligation by itself, equal ones too"
    )
    verify.add_argument("--budget", metavar="STEPS", type=steps, help="give up on an analysis after so many steps")
    verify.add_argument("--timeout", metavar="SECONDS", type=seconds, help="give up on a file after that long: unknown")
    verify.add_argument("-j", "--jobs", metavar="N", type=jobs, help="so many files at once, or `auto` (default: 1)")
    verify.add_argument("--executor", metavar="NAME", help="do the work on dask://HOST:PORT, or in MODULE:NAME")
    verify.add_argument(
        "--cache", choices=("on", "off", "verify"), help="verify: prove some kept verdicts again (default: on)"
    )
    verify.add_argument("--cache-dir", metavar="DIR", help="keep verdicts there (default: the user's cache folder)")
    add_width(verify)


def run(options: argparse.Namespace) -> int:
    from modelcheck.gate.settings import effective

    settings = {name: value.value for name, value in effective(vars(options), os.environ).items()}
    return Verification(settings, options.output).run()


class Verification:
    """One run of the command. `settings` by name, `output` the file of `-o`."""

    def __init__(self, settings: dict[str, Any], output: str | None) -> None:
        from modelcheck.cli.reports import Reports
        from modelcheck.gate.task import Limits

        self.settings = settings
        self.quiet: bool = settings["quiet"]
        self.reports = Reports(settings["format"], output, settings["width"], self.quiet)
        self.limits = Limits(
            settings["budget"], settings["timeout"], settings["full"], settings["only"], settings["strict"]
        )
        self.proofs: str | None = settings["proofs"]
        self.gate: Run | None = None
        self.trouble: list[Exit] = []

    def run(self) -> int:
        """The whole run with its reports; the exit status."""
        from modelcheck.report.outcome import overall, worst

        entries = self._baseline()
        outcomes = self._compare(self.decide(), entries)
        status = worst([overall(outcomes, self.settings["undecided"] == "fail"), *self.trouble])
        return self._close(outcomes, status)

    def decide(self) -> list[Outcome]:
        """What becomes of each file asked for, and of each folder without one. Reports get each as it comes."""
        from modelcheck.report.outcome import Outcome

        files, empty = self._files()
        self.reports.several = len(files) > 1
        for name in empty:
            say(f"nothing to check: no *.drvm file found in {name}")
        outcomes = [Outcome(name) for name in empty]
        self.gate = self._start([path for path, _ in files])
        with self.gate.catching():
            for outcome in self._outcomes(self.gate, files):
                outcomes.append(outcome)
                with self.reports.paused():
                    self.reports.add(outcome)
                self._write_proofs(outcome, files)
        self._say_how()
        return outcomes

    @property
    def interrupted(self) -> bool:
        return self.gate is not None and self.gate.interrupted

    def _files(self) -> tuple[tuple[tuple[Path, bool], ...], list[str]]:
        """The models, each with whether it came from a folder, and the folders that have none.

        Raises:
            Usage: nothing is asked for, or something of it is not there.
        """
        from modelcheck.report.paths import Usage, model_files, must_be_writable

        paths = self.settings["paths"]
        if not paths:
            raise Usage("what is to be verified? Name a model or a folder: modelcheck verify PATH...")
        files = tuple(model_files(paths))
        must_be_writable(self.reports.targets, self.proofs)
        empty = [name for name in paths if Path(name).is_dir() and not any(True for _ in model_files([name]))]
        return files, empty

    def _baseline(self) -> Any:
        if not self.settings["baseline"]:
            return None
        from modelcheck.gate.baseline import read

        return read(Path(self.settings["baseline"]))

    def _start(self, files: list[Path]) -> Run:
        from modelcheck.gate.run import Run, Work

        settings = self.settings
        checking = settings["cache"] == "verify"
        wanted = bool(self.proofs) or self.reports.wants_certificate
        work = Work(self.limits, wanted, settings["jobs"], settings["executor"], checking)
        cache = None
        if settings["cache"] != "off":
            from modelcheck.gate.cache import open_cache

            cache = open_cache(settings["cache-dir"])
        run = Run(files, work, cache)
        if not self.quiet:
            from modelcheck.gate.progress import Progress

            run.progress = Progress(sys.stderr, len(files), sys.stderr.isatty())
            self.reports.progress = run.progress
        return run

    def _outcomes(self, run: Run, files: tuple[tuple[Path, bool], ...]) -> Iterator[Outcome]:
        from modelcheck.report.outcome import Outcome
        from modelcheck.report.paths import imported_by_another

        try:
            for (path, from_folder), answer in zip(files, run.answers(), strict=True):
                outcome = answer.outcome
                is_part = from_folder and _declares_no_driver(outcome) and imported_by_another(path, files)
                with self.reports.paused():
                    if answer.complaint:
                        say(answer.complaint)
                    if is_part and not self.quiet:
                        say(f"{path}: declares no driver; checked where it is imported")
                    elif outcome.rejected and not is_part:
                        show_rejected(outcome.rejected, self.settings["width"])
                yield Outcome(str(path), only_imported=True) if is_part else outcome
        finally:
            if run.progress:
                run.progress.close()

    def _write_proofs(self, outcome: Outcome, files: tuple[tuple[Path, bool], ...]) -> None:
        """The certificate of a file into the folder asked for. What goes wrong with that is said and kept."""
        if not self.proofs:
            return
        from modelcheck.report.outcome import Exit
        from modelcheck.report.paths import Usage, write_proofs

        if outcome.report and not outcome.report.certificate:
            say(f"{outcome.path}: there is no certificate to write")
        try:
            write_proofs(Path(self.proofs), Path(outcome.path), files, outcome.report)
        except (Usage, OSError) as error:
            say(str(error))
            self.trouble.append(Exit.WRONG_INPUT)

    def _compare(self, outcomes: list[Outcome], entries: Any) -> tuple[Outcome, ...]:
        if entries is None:
            return tuple(outcomes)
        import datetime

        from modelcheck.gate.baseline import compare, told

        compared = compare(outcomes, entries, datetime.date.today())
        self.reports.remark(told(compared))
        return compared.outcomes

    def _say_how(self) -> None:
        """What a run should say about its cache."""
        gate = self.gate
        if gate is None or gate.cache is None:
            return
        if gate.cache.trouble:
            say(gate.cache.trouble)
        if gate.cache.damaged:
            say(f"{gate.cache.damaged} damaged entries of the cache were not used")
        if gate.rechecked:
            say(f"{gate.rechecked} of {gate.hits + gate.rechecked} kept verdicts were found anew")
        if gate.hits < len(gate.files):
            gate.cache.tidy()

    def _close(self, outcomes: tuple[Outcome, ...], status: Exit) -> int:
        """Writes the reports, says what a green run would not show; the exit status."""
        from modelcheck.report.outcome import Exit, Tally, tally, worst

        written = self.reports.close(outcomes, status, self.settings["undecided"] == "fail")
        unknown = sum((tally(o.report.results) for o in outcomes if o.report), Tally()).unknown
        if unknown and self.settings["undecided"] == "warn":
            say(f"{unknown} unknown pass because of --undecided warn")
        if self.gate is not None and self.gate.interrupted:
            say(f"interrupted; without a verdict: {', '.join(self.gate.missing) or 'none'}")
            return int(Exit.INTERRUPTED)
        return int(status if written else worst([status, Exit.WRONG_INPUT]))


def _declares_no_driver(outcome: Outcome) -> bool:
    """Whether that is all that is wrong with a file."""
    from modelcheck.diagnostics import Code

    return {d.code for d in outcome.rejected if d.code.is_error} == {Code.NO_DRIVER}
