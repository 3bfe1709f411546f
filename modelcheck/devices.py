"""Instances of devices: a driver has any number of each, told apart by a number behind the name.

`device Port { lock Lock .. }` declares the members of every Port. A run is of some instances, one for each parameter
that is a device; the first has the name of the device itself, the others are `Port#2`, `Port#3`. What is said of
`Port.Lock` elsewhere in a routine, without a parameter, is said of the first.

How many instances have to be told apart: a context sees as many as it has parameters of the device, and the first if it
is named. In a ring of contexts that wait for each other each wait is between two contexts, for a lock of an instance
that both know; inside a context the instance stays the same or becomes another one. With three instances every such
sequence of *same* and *another* closes if it closes with any number of them (a closed walk in the complete graph on
three vertices), so that an order of locks without a cycle for three has none for more. Where no context knows two,
one instance stands for all: a cycle with any number of them is one when they are taken for the same.
"""

from __future__ import annotations

import re
from itertools import product

from modelcheck import syntax as s
from modelcheck.record import replace
from modelcheck.resolve import Program, find_role
from modelcheck.walk import parts

MANY = 3
"""With so many instances all ways in which contexts can share them come up in a ring (see above)."""
MOST = 5
"""No more than that are ever told apart."""
_NUMBER = re.compile(r"#\d+")


def instance(device: str, number: int) -> str:
    """The name of an instance, numbered from 1."""
    return device if number == 1 else f"{device}#{number}"


def number_of(name: str) -> int:
    """The number of an instance."""
    return int(name.partition("#")[2] or 1)


def plain(name: str) -> str:
    """A name, or a text with names, as the model declares them: `Port.Lock` for `Port#2.Lock`."""
    return _NUMBER.sub("", name) if "#" in name else name


def device_of(name: str) -> str:
    """The instance whose member a full name names, "" if it is none: `Port#2` for `Port#2.Queue[1]`."""
    owner, dot, _ = name.partition(".")
    return owner if dot else ""


def instances(program: Program) -> int:
    """How many instances of each device a program has."""
    return sum(plain(name) == plain(next(iter(program.devices))) for name in program.devices) or 1


def parameters(program: Program, routine: s.Routine) -> dict[str, str]:
    """For each parameter that is a device which one."""
    return {
        param.name: param.type.name
        for param in routine.params
        if isinstance(param, s.ValueParam)
        and isinstance(param.type, s.NamedType)
        and param.type.name in program.devices
    }


def bindings(program: Program, routine: s.Routine) -> list[dict[str, str]]:
    """All ways to give a routine that the system starts the devices it takes."""
    taken = parameters(program, routine)
    instances = [[name for name in program.devices if plain(name) == device] for device in taken.values()]
    return [dict(zip(taken, chosen, strict=True)) for chosen in product(*instances)]


def needed(program: Program) -> int:
    """How many instances of each device have to be told apart for what is said of a driver to hold of any number."""
    if not program.devices:
        return 1
    most, alone = 0, False
    for routine in program.routines.values():
        taken = list(parameters(program, routine).values())
        most = max([most, *(taken.count(device) for device in taken)])
        alone = alone or (bool(taken) and _excludes(program, routine))
    if most > 1 or (most and named(program)):
        return max(MANY, most + named(program))
    return 2 if alone else 1


def _excludes(program: Program, routine: s.Routine) -> bool:
    """Whether the system runs one context of a routine at a time for each device, or nobody beside it, while others are
    at work on other ones."""
    if routine.role is None:
        return False
    role, _ = find_role(program, routine.role)
    return (role.single or bool(role.apart)) and role.phase not in ("load", "add", "unload")


def named(program: Program) -> bool:
    """Whether a device is named where no parameter is meant."""
    outside = [item for item in program.items if item.span.source in program.own and not isinstance(item, s.Scenario)]
    references = (part for item in outside for part in parts(item) if isinstance(part, s.Ref))
    return any(ref.name in program.devices for ref in references)


def with_instances(program: Program, count: int) -> Program:
    """The program with that many instances of every device."""
    if count == 1 or not program.devices:
        return program
    more = replace(
        program,
        devices={instance(name, n): device for name, device in program.devices.items() for n in range(1, count + 1)},
        locks=dict(program.locks),
        data=dict(program.data),
        events=dict(program.events),
        variables=dict(program.variables),
    )
    for device, number in product(program.devices, range(2, count + 1)):
        other = instance(device, number)
        for member in program.devices[device].members:
            name, full = f"{device}.{member.name}", f"{other}.{member.name}"
            if name in program.locks:
                more.locks[full] = replace(program.locks[name], name=full)
            elif name in program.events:
                more.events[full] = replace(program.events[name], name=full)
            elif name in program.data:
                data = program.data[name]
                more.data[full] = replace(data, name=full, guards=_of(other, device, data.guards))
            elif name in program.variables:
                variable = program.variables[name]
                guards = _of(other, device, variable.guards)
                more.variables[full] = replace(variable, name=full, guards=guards)
    return more


def _of(other: str, device: str, guards: tuple[s.Ref, ...]) -> tuple[s.Ref, ...]:
    """Guards of a member of a device as those of the same member of another instance."""
    return tuple(replace(g, name=other) if g.name == device else g for g in guards)
