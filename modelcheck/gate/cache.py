"""Verdicts kept by content: the same texts, options and program give the same report, so it is not worked out again.

An entry is found by the text of the model, its name, the options and everything that decides: the code of modelcheck
and the version of Z3. It holds for as long as every file the model was made of, shipped ones too, has the content it
had. Its certificate lies in the same file. Both parts carry their hash: a damaged entry is no entry. Entries are
written beside and moved into place, so that runs at the same time never see half of one.

A cache that others can write to is not used: whoever writes to it writes verdicts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
import time
import zlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelcheck import __version__
from modelcheck.gate.codec import NotKept, decode, encode
from modelcheck.record import dataclass, replace
from modelcheck.source import Source
from modelcheck.verdict import Certificate, Report, Undecided

if TYPE_CHECKING:
    from modelcheck.gate.task import Limits
    from modelcheck.resolve import Program

FORMAT = b"modelcheck-verdict 1"
KEPT_DAYS = 30
"""An entry that was not asked for that long goes away."""
_BOM = b"\xef\xbb\xbf"
_PASSING = re.compile(r"\b(time|within|no answer|gave up|did not answer|process)\b")
"""Reasons for an unknown that another run may not have: these are not kept."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is written for one report: under which key, and the bytes."""

    key: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Hit:
    report: Report
    key: str


@dataclass(frozen=True, slots=True)
class Text:
    """A file as read: its bytes without a byte order mark, and their hash."""

    content: bytes
    sha256: str


class Texts:
    """Files of a run, each read once."""

    def __init__(self) -> None:
        self._read: dict[str, Text | None] = {}
        self._sources: dict[tuple[str, str], Source] = {}

    def read(self, path: str) -> Text | None:
        """None for what cannot be read."""
        if path not in self._read:
            try:
                with open(path, "rb") as stream:
                    content = stream.read().removeprefix(_BOM)
            except OSError:
                self._read[path] = None
            else:
                self._read[path] = Text(content, hashlib.sha256(content).hexdigest())
        return self._read[path]

    def source(self, name: str, path: str, text: Text) -> Source:
        key = (name, text.sha256)
        if key not in self._sources:
            self._sources[key] = Source(name, text.content.decode("utf-8"), Path(path))
        return self._sources[key]


# ---- what a verdict depends on ----


def program_key() -> str | None:
    """A hash of everything that decides besides model and options; None where that cannot be told.

    All code of the package counts, not only its version: a checkout changes without one.
    """
    package = Path(__file__).parents[1]
    grammar = next((p for p in (package / "grammar", package.parent / "grammar") if p.is_dir()), None)
    solver = _version_beside("z3", "z3_solver")
    if grammar is None or solver is None:
        return None
    found = hashlib.sha256(f"{FORMAT!r} {__version__} {solver}".encode())
    try:
        for path in sorted([*_files(str(package)), *_files(str(grammar))]):
            with open(path, "rb") as stream:
                found.update(f"\n{os.path.basename(path)} ".encode() + hashlib.sha256(stream.read()).digest())
    except OSError:
        return None
    return found.hexdigest()


def _files(folder: str) -> list[str]:
    found: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                found += [] if entry.name in ("__pycache__", "models", "pages") else _files(entry.path)
            elif entry.name.endswith((".py", ".tsv", ".lark")):
                found.append(entry.path)
    return found


def _version_beside(module: str, distribution: str) -> str | None:
    """The version of a package that is installed, without importing it."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return None
    site = Path(spec.origin).parents[1]
    names = [name for name in os.listdir(site) if name.startswith(f"{distribution}-") and name.endswith(".dist-info")]
    return names[0] if len(names) == 1 else None


def solver_version() -> str:
    """What certifies proofs: `Z3 5.4.0`."""
    named = _version_beside("z3", "z3_solver") or ""
    return f"Z3 {named.removeprefix('z3_solver-').removesuffix('.dist-info')}".rstrip()


def _key(program: str, name: str, model: str, limits: Limits) -> str:
    said = json.dumps([program, name, model, limits.said()])
    return hashlib.sha256(said.encode()).hexdigest()


def _shipped_folder() -> Path:
    here = Path(__file__).parents[1]
    packaged = here / "models"
    return packaged if packaged.is_dir() else here.parent / "models"


# ---- entries ----


def entry_of(program_hash: str, path: str, limits: Limits, program: Program, report: Report) -> Entry | None:
    """The entry for a report, None where it should not be kept: an unknown that may be known the next time, or files
    that cannot be found again by their names."""
    if any(isinstance(r.verdict, Undecided) and _PASSING.search(r.verdict.reason) for r in report.results):
        return None
    if report.certificate is None:
        return None
    proof = zlib.compress(json.dumps([report.certificate.smt, report.certificate.manifest]).encode(), 1)
    try:
        described = [_describe(source, path, program) for source in program.sources]
        body = encode(replace(report, certificate=None), program.sources)
    except NotKept:
        return None
    text = json.dumps({"sources": described, "report": body}, separators=(",", ":")).encode()
    digests = " ".join(hashlib.sha256(part).hexdigest() for part in (text, proof))
    head = b"%s %d %s\n" % (FORMAT, len(text), digests.encode())
    root = described[0][3]
    return Entry(_key(program_hash, path, root, limits), head + text + proof)


def _describe(source: Source, root: str, program: Program) -> list[Any]:
    """Sort, name, place and hash of a file that a model was made of.

    Raises:
        NotKept: its name does not lead to it.
    """
    if source.path is None:
        raise NotKept("a text without a file")
    digest = hashlib.sha256(source.text.encode("utf-8")).hexdigest()
    if source not in program.own:
        folder = os.path.realpath(_shipped_folder())
        if os.path.realpath(source.path) == os.path.join(folder, source.path.name):
            return ["shipped", source.name, source.path.name, digest]
    if os.path.realpath(source.name) != os.path.realpath(source.path):
        raise NotKept("a name that leads elsewhere")
    return ["own", source.name, _place(source.name, root), digest]


def _place(name: str, root: str) -> str:
    """Where a file really is, seen from the folder of the model."""
    return os.path.relpath(os.path.realpath(name), os.path.realpath(os.path.dirname(root) or "."))


class Cache:
    """Entries in a folder. `trouble` says why nothing could be kept, "" if nothing went wrong."""

    def __init__(self, folder: Path, program_hash: str) -> None:
        self.folder = folder
        self.program_hash = program_hash
        self.texts = Texts()
        self.trouble = ""
        self.damaged = 0
        self._usable = _is_ours(folder)
        if not self._usable:
            self.trouble = f"others can write to {folder}, so it is not used"

    def find(self, path: str, limits: Limits, with_certificate: bool) -> Hit | None:
        """The kept report about a model, if it still holds."""
        root = self.texts.read(path)
        if root is None or not self._usable:
            return None
        key = _key(self.program_hash, path, root.sha256, limits)
        try:
            content = self._file(key).read_bytes()
        except OSError:
            return None
        try:
            report = self._report(content, path, with_certificate)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError, zlib.error):
            self.damaged += 1
            return None
        if report is None:
            return None
        self._touch(key)
        return Hit(report, key)

    def _report(self, content: bytes, path: str, with_certificate: bool) -> Report | None:
        """The report of an entry; None where a file has changed.

        Raises:
            ValueError and others: the entry is damaged.
        """
        head, _, rest = content.partition(b"\n")
        mark, length, text_digest, proof_digest = head.decode("ascii").rsplit(" ", 3)
        text, proof = rest[: int(length)], rest[int(length) :]
        found = [hashlib.sha256(part).hexdigest() for part in (text, proof)]
        if mark.encode() != FORMAT or found != [text_digest, proof_digest]:
            raise ValueError("the hash is another")
        kept = json.loads(text)
        sources = self._sources(kept["sources"], path)
        if sources is None:
            return None
        report: Report = decode(kept["report"], sources)
        if type(report) is not Report or report.path != path:
            raise ValueError("no report of this model")
        if not with_certificate:
            return report
        smt, manifest = json.loads(zlib.decompress(proof))
        return replace(report, certificate=Certificate(smt, manifest))

    def _sources(self, described: Sequence[Sequence[str]], root: str) -> list[Source] | None:
        """The files of an entry as they are now; None if one is not what it was."""
        sources = []
        for sort, name, place, digest in described:
            path = str(_shipped_folder() / place) if sort == "shipped" else name
            text = self.texts.read(path)
            if text is None or text.sha256 != digest or (sort == "own" and _place(name, root) != place):
                return None
            sources.append(self.texts.source(name, path, text))
        return sources

    def keep(self, entry: Entry) -> None:
        """Writes an entry, all of it or nothing. That it could not be written is said in `trouble`."""
        import tempfile

        if not self._usable:
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, suffix=".new")
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(entry.content)
                os.replace(name, self._file(entry.key))
            except OSError:
                os.unlink(name)
                raise
        except OSError as error:
            self.trouble = f"nothing can be kept in {self.folder}: {error.strerror or error}"

    def forget(self, key: str) -> None:
        with contextlib.suppress(OSError):
            self._file(key).unlink()

    def tidy(self) -> None:
        """Removes what nobody asked for in a long time, and what a killed run left half-written."""
        now = time.time()
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                age = now - entry.stat().st_mtime
                if age > KEPT_DAYS * 86400 or (entry.name.endswith(".new") and age > 3600):
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.verdict"

    def _touch(self, key: str) -> None:
        file = self._file(key)
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > 86400:
                os.utime(file)


def _is_ours(folder: Path) -> bool:
    """Nobody else can write there, or it does not exist yet. On Windows a user's folders are."""
    if sys.platform == "win32":
        return True
    try:
        status = folder.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def open_cache(folder: str | None) -> Cache | None:
    """The cache in a folder, by default the user's; None where there can be none."""
    from modelcheck.tables import cache_folder

    base = cache_folder()
    place = Path(folder) if folder else base / "verdicts" if base else None
    if place is None:
        return None
    program_hash = program_key()
    return None if program_hash is None else Cache(place, program_hash)


def contradiction(kept: Report, fresh: Report) -> str:
    """What a fresh report says that the kept one does not; "" where they agree. A fresh unknown contradicts nothing."""
    before, now = _words(kept), _words(fresh)
    if [name for name, _ in before] != [name for name, _ in now]:
        return "the list of obligations is another"
    for (name, was), (_, is_now) in zip(before, now, strict=True):
        if was is not is_now and is_now is not Undecided:
            return f"{name[0]} was {was.__name__.lower()} and is {is_now.__name__.lower()}"
    return ""


def _words(report: Report) -> list[tuple[tuple[str, str, str], type[Any]]]:
    """Each obligation by what it says (the sources of two reports are different objects), with the sort of verdict."""
    return [
        ((r.obligation.id, r.obligation.why, r.obligation.span.source.name), type(r.verdict)) for r in report.results
    ]
