"""A driver with any number of devices has the faults of one whose devices are written out, three of each: what is
broken there is not proved here, and what is violated here is broken there."""

from __future__ import annotations

import itertools
import random
import re
from collections import defaultdict
from pathlib import Path

import pytest

from modelcheck.pipeline import verify
from modelcheck.verdict import Violated
from tests.random_drivers import random_driver

DECLARED = re.compile(r"^(?:lock|data|event|var) (\w+).*\n", re.MULTILINE)
ROLES = re.compile(r"^role (\w+) \{(.*)\}", re.MULTILINE)
PHASES = ("", "", "", " phase start;", " phase stop;")
ROUTINES = re.compile(r"^routine .*?^}\n", re.MULTILINE | re.DOTALL)


class Driver:
    """A random driver of which some declarations belong to a device. Each routine is given `devices` of them, and
    comes to each member through one of these."""

    def __init__(self, seed: int, devices: int) -> None:
        self.text = ROLES.sub(lambda m: self._in_a_phase(seed, m), random_driver(seed))
        self.names = [n for n in DECLARED.findall(self.text) if random.Random(f"{seed} {n}").random() < 0.5]
        self.given = ("p", "q")[:devices]
        self.seed = seed

    def _in_a_phase(self, seed: int, role: re.Match[str]) -> str:
        phase = random.Random(f"{seed} {role.group(1)} phase").choice(PHASES)
        return f"role {role.group(1)} {{{role.group(2).rstrip()}{phase} }}"

    def through(self, routine: str, name: str) -> int:
        """The parameter through which a routine comes to a member, by index."""
        return random.Random(f"{self.seed} {routine} {name}").randrange(len(self.given))

    def with_devices(self) -> str:
        """The model with a device."""
        members = "".join(m.group() for m in DECLARED.finditer(self.text) if m.group(1) in self.names)
        rest = DECLARED.sub(lambda m: "" if m.group(1) in self.names else m.group(), self.text)
        rest = rest.replace("import wdm;\n", f"import wdm;\ndevice Device {{\n{members}}}\n", 1)
        return ROUTINES.sub(lambda m: self._given(m.group()), rest)

    def _given(self, routine: str) -> str:
        for name in self.names:
            parameter = self.given[self.through(_called(routine), name)]
            routine = re.sub(rf"\b{name}\b", f"{parameter}.{name}", routine)
        return routine.replace("()", f"({', '.join(f'Device {name}' for name in self.given)})", 1)

    def written_out(self, count: int) -> str:
        """The same with so many devices, each with members and routines of its own."""
        rest = ROUTINES.sub("", self.text)
        members = [m.group() for m in DECLARED.finditer(rest) if m.group(1) in self.names]
        rest = DECLARED.sub(lambda m: "" if m.group(1) in self.names else m.group(), rest)
        rest += "".join(_numbered(part, dict.fromkeys(self.names, n)) for n in range(1, count + 1) for part in members)
        for routine in ROUTINES.findall(self.text):
            called = _called(routine)
            for numbers in itertools.product(range(1, count + 1), repeat=len(self.given)):
                own = {name: numbers[self.through(called, name)] for name in self.names}
                rest += _numbered(routine, {**own, called: int("".join(map(str, numbers)))})
        return rest


def _called(routine: str) -> str:
    return routine.split()[1].partition("(")[0]


def _numbered(part: str, numbers: dict[str, int]) -> str:
    for name, number in numbers.items():
        part = re.sub(rf"\b{name}\b", f"{name}_{number}", part)
    return part


def told(path: Path) -> dict[tuple[str, str, str, str], set[str]]:
    """For each obligation the verdicts it gets, on all devices."""
    found: dict[tuple[str, str, str, str], set[str]] = defaultdict(set)
    for r in verify(path).results:
        subject = re.sub(r"_\d+$", "", r.obligation.subject.removeprefix("Device."))
        routine = re.sub(r"_\d+$", "", r.obligation.routine)
        text = re.sub(r"_\d+\b|\b[pq]\.", "", r.obligation.span.text)
        at = "" if r.obligation.code == "R03" else text
        found[r.obligation.code, routine, subject, at].add(type(r.verdict).__name__)
        assert not isinstance(r.verdict, Violated) or r.verdict.replayed
    return found


ONE = [(seed, 1) for seed in range(0, 400, 20)]
TWO = [(seed, 2) for seed in range(0, 400, 40)]
MORE = [pytest.param(seed, 1 + seed % 2, marks=pytest.mark.slow) for seed in range(1000, 1400)]


@pytest.mark.parametrize(("seed", "devices"), [*ONE, *TWO, *MORE])
def test_any_number_is_as_three(seed: int, devices: int, tmp_path: Path) -> None:
    driver = Driver(seed, devices)
    given, plain = tmp_path / "given.drvm", tmp_path / "plain.drvm"
    given.write_text(driver.with_devices(), encoding="utf-8")
    plain.write_text(driver.written_out(3), encoding="utf-8")
    any_number, three = told(given), told(plain)
    assert any_number.keys() == three.keys()
    for key, verdicts in three.items():
        if "Violated" in verdicts:
            assert any_number[key] != {"Proved"}, key
        if "Violated" in any_number[key]:
            assert "Violated" in verdicts, key
