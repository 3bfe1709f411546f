"""From files to a `Program`: imports followed, every declared name in one table, settings applied.

A model is untrusted input: an import names a shipped model, or a file in the folder of the model that is verified.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from modelcheck import syntax as s
from modelcheck.diagnostics import Code, Diagnostic, Rejected, in_source_order
from modelcheck.parser import parse
from modelcheck.source import Source, Span

T = TypeVar("T")


@dataclass(slots=True)
class Program:
    """Every declaration of a driver and its imports, by name. Device members and interrupt locks are qualified:
    `Port.Lock`, `Line.lock`. Complete once `resolve` returns; not changed afterwards."""

    driver: str
    root: Source
    sources: list[Source] = field(default_factory=list)
    own: set[Source] = field(default_factory=set)
    """The user's files; the others are shipped models."""
    constants: dict[str, int] = field(default_factory=dict)
    enums: dict[str, tuple[str, ...]] = field(default_factory=dict)
    enum_values: dict[str, int] = field(default_factory=dict)
    settings: dict[str, s.SettingDecl] = field(default_factory=dict)
    setting_values: dict[str, s.Expr] = field(default_factory=dict)
    lock_kinds: dict[str, s.LockKind] = field(default_factory=dict)
    handle_kinds: dict[str, s.HandleKind] = field(default_factory=dict)
    roles: dict[str, list[s.Role]] = field(default_factory=dict)
    externs: dict[str, list[s.Extern]] = field(default_factory=dict)
    locks: dict[str, s.LockDecl] = field(default_factory=dict)
    data: dict[str, s.DataDecl] = field(default_factory=dict)
    events: dict[str, s.EventDecl] = field(default_factory=dict)
    variables: dict[str, s.VarDecl] = field(default_factory=dict)
    context_variables: dict[str, s.ContextVar] = field(default_factory=dict)
    interrupts: dict[str, s.InterruptDecl] = field(default_factory=dict)
    deferred: dict[str, s.DeferredDecl] = field(default_factory=dict)
    devices: dict[str, s.DeviceDecl] = field(default_factory=dict)
    routines: dict[str, s.Routine] = field(default_factory=dict)
    scenarios: dict[str, s.Scenario] = field(default_factory=dict)
