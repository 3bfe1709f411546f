"""A driver gets the same verdicts about single contexts when its locks, data, events and variables belong to a device
that its routines are given, whatever they call it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from modelcheck.pipeline import verify
from modelcheck.verdict import MUTUAL
from tests.random_drivers import random_driver

DECLARED = re.compile(r"^(?:lock|data|event|var) (\w+).*$", re.MULTILINE)


def through_a_device(text: str) -> str:
    """The model with all that it declares as members of a device, which every routine is given as `given`."""
    names = DECLARED.findall(text)
    members = "\n".join(match.group() for match in DECLARED.finditer(text))
    rest = DECLARED.sub("", text)
    for name in names:
        rest = re.sub(rf"\b{name}\b", f"given.{name}", rest)
    rest = re.sub(r"^routine (\w+)\(\)", r"routine \1(Device given)", rest, flags=re.MULTILINE)
    return rest.replace("import wdm;", f"import wdm;\ndevice Device {{\n{members}\n}}", 1)


def told(path: Path) -> Counter[tuple[str, str, str, str]]:
    return Counter(
        (
            r.obligation.code,
            r.obligation.routine,
            r.obligation.subject.removeprefix("Device."),
            type(r.verdict).__name__,
        )
        for r in verify(path).results
        if r.obligation.code not in MUTUAL  # of several contexts, on how many devices: test_devices
    )


@pytest.mark.parametrize("seed", range(0, 300, 20))
def test_verdicts_are_the_same(seed: int, tmp_path: Path) -> None:
    plain, given = tmp_path / "plain.drvm", tmp_path / "given.drvm"
    text = random_driver(seed)
    plain.write_text(text, encoding="utf-8")
    given.write_text(through_a_device(text), encoding="utf-8")
    assert told(given) == told(plain)
