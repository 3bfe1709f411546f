"""What the tables cannot follow: many correlated flags, wide integers. Decided all the same, and never wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelcheck.blocks import cut_points
from modelcheck.engines import merge, spacer
from modelcheck.engines.analyse import Analysis, Limits
from modelcheck.lower import Lowered, lower
from modelcheck.pipeline import load, verify
from modelcheck.system import NotFlat, System
from modelcheck.verdict import MUTUAL, Property, Proved, Violated

FLAGS = 8


def flags(loop: bool, missing: int | None = None) -> str:
    """Locks each taken under a flag of its own, and released under it; all but one."""
    taken = [f"    if (p{i}) {{ KeAcquireSpinLock(&L{i}, &o{i}); }}" for i in range(FLAGS)]
    released = [f"    if (p{i}) {{ KeReleaseSpinLock(&L{i}, o{i}); }}" for i in reversed(range(FLAGS)) if i != missing]
    body = "\n".join([*taken, *released])
    declared = "\n".join(f"    KIRQL o{i};\n    bool p{i} = *;" for i in range(FLAGS))
    locks = "\n".join(f"lock L{i} : KSPIN_LOCK initialised;" for i in range(FLAGS))
    inner = f"    while (*) {{\n{body}\n    }}" if loop else body
    return f"driver flags;\nimport wdm;\n{locks}\nroutine R(Irp) as DRIVER_DISPATCH {{\n{declared}\n{inner}\n}}\n"


WIDE = """driver wide;
import wdm;
lock L : KSPIN_LOCK initialised;
routine R(Irp) as DRIVER_DISPATCH {
    KIRQL old;
    int 0..1000000 size = *;
    if (size > 5) { KeAcquireSpinLock(&L, &old); }
    if (size > LIMIT) { KeReleaseSpinLock(&L, old); }
}
"""


def lowered(folder: Path, text: str) -> Lowered:
    path = folder / "model.drvm"
    path.write_text(text, encoding="utf-8")
    return lower(load(path)[0])


def system_of(model: Lowered, bits: bool) -> System:
    """The system of the only root, for all its obligations."""
    (root,) = model.roots
    numbers = {n for n in range(len(model.obligations)) if n not in model.questions and n not in model.facts}
    analysis = Analysis(model, Limits())
    analysis.run()
    return System(root, frozenset(numbers), analysis.lives[root], bits)


@pytest.mark.parametrize("loop", [False, True], ids=["once", "in a loop"])
def test_many_flags_are_proved(loop: bool, tmp_path: Path) -> None:
    """Every obligation about one context, with a certificate that Z3 accepts."""
    path = tmp_path / "model.drvm"
    path.write_text(flags(loop), encoding="utf-8")
    alone = [result for result in verify(path).results if result.obligation.code not in MUTUAL]
    assert all(isinstance(result.verdict, Proved) for result in alone)


def test_merged_paths_do_not_prove_a_missing_release(tmp_path: Path) -> None:
    """The lock that is left held is among what the merged query finds broken."""
    model = lowered(tmp_path, flags(False, missing=4))
    answer = merge.solve(system_of(model, bits=True), 0, 30_000)
    assert not isinstance(answer, str)
    open_ = {(model.obligations[n].code, model.obligations[n].subject) for n in set(system_numbers(model)) - answer[1]}
    assert (Property.B03, "L4") in open_
    assert (Property.B03, "L3") not in open_


def system_numbers(model: Lowered) -> list[int]:
    return [n for n in range(len(model.obligations)) if n not in model.questions and n not in model.facts]


def test_the_entry_and_loop_heads_are_cut_points(tmp_path: Path) -> None:
    """Without a loop there is one, with one there are two."""
    assert len(cut_points(system_of(lowered(tmp_path, flags(False)), bits=True))) == 1
    assert len(cut_points(system_of(lowered(tmp_path, flags(True)), bits=True))) == 2


def test_wide_integers_are_proved(tmp_path: Path) -> None:
    """A comparison of a wide number guards acquire and release."""
    path = tmp_path / "model.drvm"
    path.write_text(WIDE.replace("LIMIT", "5"), encoding="utf-8")
    alone = [result for result in verify(path).results if result.obligation.code not in MUTUAL]
    assert all(isinstance(result.verdict, Proved) for result in alone)


def test_wide_integers_are_refuted(tmp_path: Path) -> None:
    """One number between the two bounds leaves the lock held."""
    path = tmp_path / "model.drvm"
    path.write_text(WIDE.replace("LIMIT", "6"), encoding="utf-8")
    violated = {r.obligation.code for r in verify(path).results if isinstance(r.verdict, Violated)}
    assert {Property.B03, Property.I02} <= violated


def test_spacer_does_not_prove_what_is_broken(tmp_path: Path) -> None:
    """It says so in words; no formula comes back."""
    model = lowered(tmp_path, WIDE.replace("LIMIT", "6"))
    (root,) = model.roots
    number = next(n for n in system_numbers(model) if model.obligations[n].code is Property.B03)
    system = System(root, frozenset({number}), {}, bits=False)
    assert isinstance(spacer.solve(system, 30.0), str)


def test_recursion_is_not_flat(tmp_path: Path) -> None:
    """A root that calls itself has no finite system."""
    text = "driver r;\nimport wdm;\nroutine R(Irp) as DRIVER_DISPATCH { if (*) { R(Irp); } assert true; }\n"
    model = lowered(tmp_path, text)
    with pytest.raises(NotFlat):
        System(model.roots[0], frozenset(system_numbers(model)), {}, bits=True)
