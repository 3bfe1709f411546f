"""Which files are read and written: models found, outputs written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from modelcheck.verdict import Report

_IMPORT = re.compile(r'^\s*import\s*"([^"\n]+)"', re.MULTILINE)


class Usage(Exception):
    """A file or folder, or a word of the command line, cannot be used as asked; the message says why. Exit status 2."""


def existing_file(name: str) -> Path:
    """
    Raises:
        Usage: where there is no file of that name.
    """
    path = Path(name)
    if not path.is_file():
        raise Usage(f"{name}: no such file")
    return path


def model_files(given: Sequence[str]) -> Iterator[tuple[Path, bool]]:
    """Each model once, in the order given, a folder's sorted by name; with whether it came from a folder.

    Raises:
        Usage: for what is not there, and for a folder that cannot be looked into.
    """
    seen: set[Path] = set()
    for name in given:
        path = Path(name)
        if path.is_dir():
            found = sorted(_below(path), key=lambda p: p.parts)
        elif path.exists():
            found = [path]
        else:
            raise Usage(f"{name}: no such file or folder")
        for file in found:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file, path.is_dir()


def _below(folder: Path) -> Iterator[Path]:
    """Everything called `*.drvm` that is no folder: a link that leads nowhere is a model that cannot be read."""

    def refuse(error: OSError) -> None:
        raise Usage(f"cannot look into {error.filename}: {error.strerror or error}")

    for place, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(place, name) for name in names if name.endswith(".drvm"))


def imported_by_another(path: Path, files: Sequence[tuple[Path, bool]]) -> bool:
    """Whether another file of the run imports this one: then it is checked there."""
    for other, _ in files:
        if other == path:
            continue
        try:
            text = other.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it has an outcome of its own
        if any((other.parent / name).resolve() == path.resolve() for name in _IMPORT.findall(text)):
            return True
    return False


def must_be_writable(outputs: Sequence[str], proofs: str | None) -> None:
    """Finds out before the work whether its results have a place to go.

    Raises:
        Usage: if not.
    """
    for file in outputs:
        if Path(file).is_dir():
            raise Usage(f"cannot write {file}: it is a folder")
        if not Path(file).absolute().parent.is_dir():
            raise Usage(f"cannot write {file}: there is no such folder")
    if proofs:
        try:
            Path(proofs).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Usage(f"cannot write to {proofs}: {error.strerror or error}") from None


def write_whole(path: Path, content: str | bytes | Iterable[str]) -> None:
    """All of it or nothing: whoever reads the file never sees half of it. The content can come in parts.

    Raises:
        Usage: when it cannot be written.
    """
    parts = [content] if isinstance(content, str | bytes) else content
    data = (p.encode("utf-8", errors="backslashreplace") if isinstance(p, str) else p for p in parts)
    target = path.resolve()
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():  # a terminal or a pipe, such as /dev/stdout
            with path.open("wb") as stream:
                stream.writelines(data)
            return
        with beside.open("wb") as stream:
            stream.writelines(data)
        if target.exists():
            beside.chmod(target.stat().st_mode & 0o7777)
        beside.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise Usage(f"cannot write {path}: {error.strerror or error}") from None


def write_proofs(folder: Path, path: Path, files: Sequence[tuple[Path, bool]], report: Report | None) -> None:
    """`NAME.smt2` and `NAME.json` for a report with a certificate; without one, an older pair goes away.

    NAME is that of the model; with its folders where two models of the run have the same name.
    """
    name = path.stem
    if sum(other.stem == name for other, _ in files) > 1:
        name = "-".join([*(part for part in path.parent.parts if part not in ("/", "..")), name])
    certificate = report.certificate if report else None
    pair = {"smt2": certificate.smt, "json": certificate.manifest} if certificate else {"smt2": None, "json": None}
    for suffix, text in pair.items():
        file = folder / f"{name}.{suffix}"
        if text is None:
            file.unlink(missing_ok=True)
        else:
            write_whole(file, text)
