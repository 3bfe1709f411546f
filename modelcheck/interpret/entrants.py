"""The contexts of a scenario, and those of the open world, before they start."""

from __future__ import annotations

from collections.abc import Mapping

from modelcheck import syntax as s
from modelcheck.interpret.configuration import Configuration, Entrant
from modelcheck.interpret.machine import Machine
from modelcheck.interpret.player import Player
from modelcheck.interpret.values import Environment
from modelcheck.interpret.world import World
from modelcheck.resolve import Program, qualified, run_arguments
from modelcheck.verdict import DISPATCH_LEVEL


def closed_world(
    program: Program, scenario: str, given: Mapping[str, int] | None = None
) -> tuple[World, Configuration]:
    """The world of a scenario and the configuration it starts in. A context that names no processor is on the first.
    `given` are values of shared variables that have none, neither declared nor in the scenario."""
    declared = program.scenarios[scenario]
    player = Player(program)
    entrants = [_run(player, step) for step in declared.steps if isinstance(step, s.Run)]
    values = {n: v for n, v in (given or {}).items() if n in program.variables and program.variables[n].value is None}
    for step in declared.steps:
        if isinstance(step, s.Assign):
            name = qualified(step.target)
            value = program.constant_of(program.variables[name].type, step.value)
            if value is not None:
                values[name] = value
    world = World(program, entrants, declared.processors or 1, closed=True)
    return world, world.begin(values)


def _run(player: Player, run: s.Run) -> Entrant:
    program = player.program
    routine = program.routines[run.routine]
    kind = str(run.kind) if run.kind is not None else kind_of(player, run.routine)
    level = None if run.level is None else program.constant(run.level)
    if level is None:
        level = _usual_level(player, run.routine, kind)
    binding: dict[str, str] = {}
    arguments: dict[str, int] = {}
    for param, arg in zip(routine.params, run_arguments(routine, run), strict=False):
        ref = arg.ref if isinstance(arg, s.Address) else arg if isinstance(arg, s.Ref) else None
        if isinstance(param, s.LockParam) and ref is not None:
            binding[param.name] = player.tables.guards_of((ref,))[0]
        elif isinstance(param, s.ValueParam):
            value = program.constant_of(param.type, arg)
            if value is not None:
                arguments[param.name] = value
    return Entrant(run.routine, kind, run.processor or 0, level, level, player, binding, arguments)


def kind_of(player: Machine, routine: str) -> str:
    """`thread`, `dpc` or `isr`, as the role says; without a role a thread."""
    role, _ = player.role(routine)
    return str(s.ContextKind.THREAD if role is None else role.kind)


def _usual_level(player: Machine, routine: str, kind: str) -> int:
    """The level a context of a scenario starts at where none is given."""
    if kind == "dpc":
        return DISPATCH_LEVEL
    levels = player.levels(routine)
    if kind == "isr":
        return max(interrupt_level(player, routine), min(levels))
    return min(levels)


def interrupt_level(player: Machine, routine: str) -> int:
    """The level of the interrupt that a role is for, or that its `entry` raises to; 0 if there is none."""
    program = player.program
    role, arguments = player.role(routine)
    found = [0]
    for value in arguments.values():
        if isinstance(value, s.Ref) and value.name in program.interrupts:
            found.append(program.constant(program.interrupts[value.name].level) or 0)
    if role is None or role.entry is None:
        return max(found)
    for stmt in role.entry.body:
        if isinstance(stmt, s.Raise):
            found.append(player.role_level(stmt.level, arguments))
    return max(found)


def inner(
    player: Player, routine: str, caller: Entrant, within: int, level: int, binding: Mapping[str, str]
) -> Entrant:
    """A context of the open world that runs in a call-out of another: where that runs, as what it is."""
    return Entrant(routine, caller.kind, caller.processor, level, level, player, binding, within=within)


def entrant(player: Player, routine: str, processor: int, level: int, binding: Mapping[str, str]) -> Entrant:
    """A context of the open world that starts at one of the levels of its role."""
    role, _ = player.role(routine)
    raises = role is not None and role.entry is not None and any(isinstance(x, s.Raise) for x in role.entry.body)
    interrupts = max(level, interrupt_level(player, routine)) if raises else level
    return Entrant(routine, kind_of(player, routine), processor, level, interrupts, player, binding)


def players(
    program: Program, environments: Mapping[str, Environment], first: Player | None = None
) -> dict[str, Player]:
    """A player for each routine, in the environment of that routine; what is compiled is shared, with `first` too."""
    first = first or Player(program)
    return {routine: first.with_environment(environment) for routine, environment in environments.items()}


__all__ = ["closed_world", "entrant", "inner", "interrupt_level", "kind_of", "players"]
