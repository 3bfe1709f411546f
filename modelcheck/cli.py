"""The command line: what is asked for, what is printed where, which exit status comes back.

Only the standard library is imported here; what a command needs it imports itself, so that `--help` is quick and
nothing that can do without Z3 loads it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from modelcheck.diagnostics import Diagnostic
    from modelcheck.report.outcome import Outcome
    from modelcheck.report.text import Style

EPILOG = """\
exit status:
  0  everything asked for was checked and proved
  1  something is violated
  2  wrong usage, configuration or model
  3  nothing violated, but something unknown
  4  internal error
  5  nothing was checked
The worst one wins, in the order 4, 2, 1, 3, 5, 0.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. The exit status; never raises, besides `SystemExit` from argparse."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = _parser().parse_args(arguments)
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        # The reader went away. Nothing more can be said on stdout, not even at the interpreter's exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _complain(f"cannot write the output: {error.strerror or error}", 2)
    except Exception as error:
        from modelcheck.report.paths import Usage

        if isinstance(error, Usage):
            return _complain(str(error), 2)
        return _complain(_internal_error(error), 4)


def _complain(message: str, code: int) -> int:
    _say(message)
    return code


def _say(message: str) -> None:
    """A word on stderr for whoever runs this. Where nobody listens, the exit status still tells."""
    with contextlib.suppress(OSError):
        print(f"modelcheck: {message}", file=sys.stderr, flush=True)


def _internal_error(error: Exception) -> str:
    """Stage, broken promise and stack trace: enough to find our fault."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    stage = next((Path(f.filename).stem for f in reversed(frames) if "modelcheck" in Path(f.filename).parts), "cli")
    trace = "".join(traceback.format_exception(error))
    return (
        f"internal error in {stage}: {type(error).__name__}: {error}\n{trace}A fault of modelcheck; please report it."
    )


# ---- the command line ----


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="modelcheck",
        description="Proves or refutes that a Windows kernel driver keeps the rules of its locks and its IRQL.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_verify(commands)
    _add_list(commands)
    _add_explain(commands)
    _add_recheck(commands)
    _add_fmt(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser.exit(message=f"modelcheck {_version()}\n")


def _version() -> str:
    from importlib.metadata import version

    return version("modelcheck")


if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _add_verify(commands: _Commands) -> None:
    verify = commands.add_parser(
        "verify",
        help="prove or refute the obligations of model files",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verify.add_argument("paths", metavar="PATH", nargs="+", help="a model, or a folder: every *.drvm below it")
    verify.add_argument("--format", choices=("text", "json"), default="text", help="for people or for programs")
    verify.add_argument("-o", "--output", metavar="FILE", help="write the report there, not to the terminal")
    verify.add_argument("--proofs", metavar="DIR", help="write the certificates there, for `modelcheck recheck`")
    verify.add_argument(
        "--only", metavar="CODE,..", type=_properties, default=frozenset(), help="only these properties"
    )
    verify.add_argument("--undecided", choices=("fail", "warn"), default="fail", help="warn: unknown alone is exit 0")
    verify.add_argument("-q", "--quiet", action="store_true", help="what is not proved, and the closing line, only")
    verify.add_argument("--full", action="store_true", help="certify every obligation by itself, equal ones too")
    verify.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, help="give up on a question to the solver after that long"
    )
    _add_width(verify)
    verify.set_defaults(run=_verify)


def _add_list(commands: _Commands) -> None:
    listing = commands.add_parser("list", help="list the obligations of a model")
    listing.add_argument("path", metavar="FILE")
    _add_width(listing)
    listing.set_defaults(run=_list)


def _add_explain(commands: _Commands) -> None:
    explain = commands.add_parser("explain", help="say what a code means, with a bad and a good example")
    explain.add_argument("code", metavar="CODE", nargs="?", help="such as B03 or E0201; without it, all codes")
    _add_width(explain)
    explain.set_defaults(run=_explain)


def _add_recheck(commands: _Commands) -> None:
    recheck = commands.add_parser("recheck", help="check the certificates in a folder with another solver")
    recheck.add_argument("folder", metavar="DIR")
    recheck.set_defaults(run=_recheck)


def _add_fmt(commands: _Commands) -> None:
    fmt = commands.add_parser("fmt", help="write models in the standard layout")
    fmt.add_argument("paths", metavar="FILE", nargs="+")
    fmt.add_argument("--check", action="store_true", help="change nothing; exit with 1 if something would change")
    _add_width(fmt)
    fmt.set_defaults(run=_fmt)


def _add_width(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--width", metavar="N", type=_columns, help="columns of text (default: the terminal's, or 80)")


def _properties(text: str) -> frozenset[str]:
    from modelcheck.verdict import Property

    asked = [code.strip().upper() for code in text.split(",") if code.strip()]
    unknown = [code for code in asked if code not in set(Property)]
    if unknown or not asked:
        raise argparse.ArgumentTypeError(f"no property {', '.join(unknown) or repr(text)}; see `modelcheck explain`")
    return frozenset(asked)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a number of seconds above 0 is wanted, not {text!r}")
    return value


def _columns(text: str) -> int:
    from modelcheck.report.text import MIN_WIDTH

    if not text.isdecimal() or not MIN_WIDTH <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"a number from {MIN_WIDTH} to 1000 is wanted, not {text!r}")
    return int(text)


# ---- output ----


def _style(stream: TextIO, width: int | None) -> Style:
    """Colour on a terminal only, and not where NO_COLOR asks for none."""
    from modelcheck.report.text import MIN_WIDTH, Style

    terminal = stream.isatty()
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    if width is None:
        width = 80
        if terminal:
            import shutil

            width = max(MIN_WIDTH, min(shutil.get_terminal_size().columns, 120))
    return Style(width, colour)


def _show_rejected(diagnostics: Sequence[Diagnostic], width: int | None) -> None:
    from modelcheck.render import render

    style = _style(sys.stderr, width)
    sys.stdout.flush()
    for diagnostic in diagnostics:
        print(render(diagnostic, style.width, style.colour).rstrip("\n"), file=sys.stderr, end="\n\n")


# ---- verify ----


def _verify(options: argparse.Namespace) -> int:
    from modelcheck.report.outcome import Outcome, overall
    from modelcheck.report.paths import imported_by_another, model_files, must_be_writable, write_proofs

    files = tuple(model_files(options.paths))
    must_be_writable(options.output, options.proofs)
    write, close = _reporter(options, several=len(files) > 1)
    outcomes = []
    for path, from_folder in files:
        outcome = _verify_file(path, options)
        if from_folder and _declares_no_driver(outcome) and imported_by_another(path, files):
            outcome = Outcome(str(path), only_imported=True)
        outcomes.append(outcome)
        write(outcome)
        if options.proofs:
            if outcome.report and not outcome.report.certificate:
                _say(f"{path}: there is no certificate to write")
            write_proofs(Path(options.proofs), path, files, outcome.report)
    close(outcomes)
    return int(overall(outcomes, options.undecided == "fail"))


def _declares_no_driver(outcome: Outcome) -> bool:
    """Whether that is all that is wrong with a file."""
    from modelcheck.diagnostics import Code

    return {d.code for d in outcome.rejected if d.code.is_error} == {Code.NO_DRIVER}


def _verify_file(path: Path, options: argparse.Namespace) -> Outcome:
    """What becomes of one file. A fault of ours is told at once and ends this file only."""
    import gc

    from modelcheck.diagnostics import Rejected
    from modelcheck.report.outcome import Outcome

    gc.disable()  # what is made for a file lives until its report: looking for garbage would find none
    try:
        from modelcheck.pipeline import Options, verify

        limits = {} if options.timeout is None else {"timeout": options.timeout}
        wanted = Options(full=options.full, only=options.only, certificate=bool(options.proofs), **limits)
        report = verify(path, wanted)
        return Outcome(str(path), report)
    except Rejected as error:
        return Outcome(str(path), rejected=error.diagnostics)
    except Exception as error:
        _say(_internal_error(error))
        return Outcome(str(path), crashed=f"{type(error).__name__}: {error}")
    finally:
        gc.enable()


def _reporter(
    options: argparse.Namespace, several: bool
) -> tuple[Callable[[Outcome], None], Callable[[Sequence[Outcome]], None]]:
    """What to do with each outcome, and with all of them at the end."""
    if options.format == "json":
        return (lambda outcome: _tell(outcome, options)), (lambda outcomes: _close_json(outcomes, options))
    from modelcheck.render import render
    from modelcheck.report.paths import write_whole
    from modelcheck.report.text import file_report, run_total

    style = _style(sys.stdout, options.width)
    if options.output:
        style = type(style)(options.width or 80)
    parts: list[str] = []

    def out(text: str) -> None:
        if options.output:
            parts.append(text)
        else:
            print(text, end="", flush=True)

    def write(outcome: Outcome) -> None:
        _tell(outcome, options)
        if outcome.report:
            text = file_report(outcome.report, style, lambda d: render(d, style.width, style.colour), options.quiet)
            out(text + ("\n" if several and not options.quiet else ""))

    def close(outcomes: Sequence[Outcome]) -> None:
        if not outcomes:
            _say("nothing to check: no *.drvm file found")
        out(run_total(outcomes, style))
        if options.output:
            write_whole(Path(options.output), "".join(parts))

    return write, close


def _tell(outcome: Outcome, options: argparse.Namespace) -> None:
    """What concerns the person who runs this, whatever the format: refusals and skipped files, on stderr."""
    if outcome.rejected:
        _show_rejected(outcome.rejected, options.width)
    if outcome.only_imported and not options.quiet:
        _say(f"{outcome.path}: declares no driver; checked where it is imported")


def _close_json(outcomes: Sequence[Outcome], options: argparse.Namespace) -> None:
    from modelcheck.report.json import dumps
    from modelcheck.report.outcome import overall
    from modelcheck.report.paths import write_whole

    undecided_is_error = options.undecided == "fail"
    text = dumps(outcomes, overall(outcomes, undecided_is_error), _version(), undecided_is_error)
    if options.output:
        write_whole(Path(options.output), text)
    else:
        print(text, end="")


# ---- the other commands ----


def _list(options: argparse.Namespace) -> int:
    from modelcheck.diagnostics import Rejected
    from modelcheck.report.paths import existing_file
    from modelcheck.report.text import obligations_list

    path = existing_file(options.path)
    try:
        from modelcheck.pipeline import obligations

        found = obligations(path)
    except Rejected as error:
        _show_rejected(error.diagnostics, options.width)
        return 2
    print(obligations_list(((o.id, o.why) for o in found), _style(sys.stdout, options.width)), end="")
    print(f"{len(found)} obligations")
    return 0 if found else 5


def _explain(options: argparse.Namespace) -> int:
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
    print(plain(found.text, _style(sys.stdout, options.width).width), end="")
    return 0


def _recheck(options: argparse.Namespace) -> int:
    from modelcheck.report.paths import Usage

    folder = Path(options.folder)
    if not folder.is_dir():
        raise Usage(f"{options.folder}: no such folder")
    from modelcheck.evidence.recheck import recheck

    results = recheck(folder)
    if not results:
        return _complain(f"{options.folder}: no certificates there", 5)
    for result in results:
        print(result)
    return 4 if any(result.problem for result in results) else 0


def _fmt(options: argparse.Namespace) -> int:
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
        _show_rejected(error.diagnostics, options.width)
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
