"""Which report goes where: several formats from one run, each whole or not at all.

A format with a file goes into that file. One without goes where `-o` says, else to the terminal; where every format has
a file, the text goes to the terminal besides.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from modelcheck.cli.terminal import say, style, version

if TYPE_CHECKING:
    from modelcheck.gate.progress import Progress
    from modelcheck.report.outcome import Exit, Outcome

TERMINAL = ""
_SHARE_A_TERMINAL = {"text", "github"}


class Reports:
    """The reports of a run. Text for the terminal is printed as it comes, all others at the end.

    Raises:
        Usage: two formats want the same place.
    """

    def __init__(self, formats: Sequence[str], output: str | None, width: int | None, quiet: bool) -> None:
        self._width, self._quiet = width, quiet
        self._wanted = _places(formats, output)
        self._texts: dict[str, list[str]] = {place: [] for name, place in self._wanted if name == "text"}
        self._remarks: list[str] = []
        self.several = False
        self.silent = False
        self.progress: Progress | None = None
        self._style = style(sys.stdout, width)

    @property
    def targets(self) -> list[str]:
        """The files that will be written."""
        return [place for _, place in self._wanted if place != TERMINAL]

    @property
    def wants_certificate(self) -> bool:
        return any(name == "sarif" for name, _ in self._wanted)

    def paused(self) -> AbstractContextManager[None]:
        """While something is printed: the progress is not."""
        return self.progress.paused() if self.progress else nullcontext()

    def add(self, outcome: Outcome) -> None:
        """One more file. Its text is printed at once."""
        if outcome.report is None or not self._texts or self.silent:
            return
        from functools import partial

        from modelcheck.render import render
        from modelcheck.report.text import file_report

        for place in self._texts:
            look = self._style if place == TERMINAL else type(self._style)(self._width or 80)
            text = file_report(outcome.report, look, partial(render, width=look.width, colour=look.colour), self._quiet)
            self._say(place, text + ("\n" if self.several and not self._quiet else ""))

    def remark(self, text: str) -> None:
        """Something about the whole run."""
        self._remarks.append(text)

    def _say(self, place: str, text: str) -> None:
        if place == TERMINAL:
            print(text, end="", flush=True)
        else:
            self._texts[place].append(text)

    def close(self, outcomes: Sequence[Outcome], status: Exit, undecided_is_error: bool) -> bool:
        """Everything that comes at the end. Whether all files could be written; of one that could not, nothing is."""
        from modelcheck.report.paths import Usage, write_whole
        from modelcheck.report.text import run_total

        written = True
        for name, place in self._wanted:
            if name == "text":
                self._say(
                    place,
                    run_total(outcomes, self._style if place == TERMINAL else type(self._style)(self._width or 80)),
                )
                self._say(place, "".join(self._remarks))
                parts: Iterable[str] = () if place == TERMINAL else self._texts[place]
            else:
                parts = self._made(name, outcomes, status, undecided_is_error)
            if place == TERMINAL:
                sys.stdout.writelines(parts)
                sys.stdout.flush()
                continue
            try:
                write_whole(Path(place), parts)
            except Usage as error:
                say(str(error))
                written = False
        return written

    def _made(self, name: str, outcomes: Sequence[Outcome], status: Exit, undecided_is_error: bool) -> Iterable[str]:
        if name == "json":
            from modelcheck.report.json import parts

            return parts(outcomes, status, version(), undecided_is_error)
        from importlib import import_module

        from modelcheck.gate.cache import solver_version
        from modelcheck.report.machine import Whole

        remarks = tuple(line.strip() for text in self._remarks for line in text.splitlines())
        whole = Whole(tuple(outcomes), status, version(), solver_version(), undecided_is_error, remarks)
        return (import_module(f"modelcheck.report.{name}").dumps(whole),)


def _places(formats: Sequence[str], output: str | None) -> list[tuple[str, str]]:
    """Each format with its file, or `TERMINAL`."""
    from modelcheck.report.paths import Usage

    found: list[tuple[str, str]] = []
    for word in formats or ("text",):
        name, _, file = word.partition("=")
        found.append((name, file or output or TERMINAL))
    if output and not any(place == output for _, place in found):
        found.append(("text", output))
    elif all(place != TERMINAL for _, place in found) and not output:
        found.insert(0, ("text", TERMINAL))
    at_terminal = {name for name, place in found if place == TERMINAL}
    if len(at_terminal) > 1 and not at_terminal <= _SHARE_A_TERMINAL:
        raise Usage(f"{' and '.join(sorted(at_terminal))} cannot both go to the terminal; write --format NAME=FILE")
    files = [Path(place).absolute() for _, place in found if place != TERMINAL]
    if len(set(files)) != len(files):
        raise Usage("two reports cannot go into one file")
    return list(dict.fromkeys(found))
