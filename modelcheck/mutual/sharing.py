"""Which devices contexts share: a driver has any number of each, and only some instances are told apart (`devices`).

Two contexts that hold the lock of a device exclude each other on the same device only. What is said of a few instances
is said of any number where all ways come up in which the contexts in question can share them; else it is no reason
for a proof.
"""

from __future__ import annotations

from modelcheck.devices import device_of, instances, named, plain
from modelcheck.ir import Root
from modelcheck.resolve import Program


class Sharing:
    """The devices of one driver. `count`: how many instances of each are told apart."""

    def __init__(self, program: Program, roots: list[Root]) -> None:
        self.devices = {plain(name) for name in program.devices}
        self.count = instances(program)
        self.named = bool(self.devices) and named(program)
        self.taken = [[plain(instance) for _, instance in root.devices] for root in roots]
        """For each root the devices that it is given."""
        self.each = {
            name
            for name, lock in program.locks.items()
            if lock.span.source not in program.own
            and (kind := program.lock_kinds.get(lock.kind)) is not None
            and kind.each_device
        }
        """Locks that a kernel model declares once and every device has one of."""

    def device(self, name: str) -> str:
        """The device that a lock or a variable is a member of, "" if none."""
        owner = plain(device_of(name))
        return owner if owner in self.devices else ""

    def told_apart(self, device: str, first: int, second: int, shared: bool) -> bool:
        """Whether all ways come up in which contexts of two roots can share instances of a device; `shared`: they have
        one in common anyway."""
        taken = self.taken[first].count(device) + self.taken[second].count(device)
        return not taken or taken + self.named - shared <= self.count

    def excludes(self, name: str, first: int, second: int, shared: str = "") -> bool:
        """Whether what two contexts find of a lock or a variable is found of the same one; `shared`: a lock or data
        that both are about."""
        if self.devices and name.partition("[")[0] in self.each:
            return self._on_one(self.device(shared), first, second)
        device = self.device(name)
        return not device or self.told_apart(device, first, second, device == self.device(shared))

    def _on_one(self, device: str, first: int, second: int) -> bool:
        """Whether contexts of two roots that are about a member of a device are on that one, and on no other."""
        return bool(device) and not self.named and self.taken[first] == self.taken[second] == [device]

    def keeps_off(self, kept_off: str, first: int, second: int, shared: str = "") -> bool:
        """Whether two contexts never come together because they are kept off a device that both are given; `shared`: a
        lock or data that both are about."""
        device = plain(kept_off)
        return bool(device) and self.told_apart(device, first, second, device == self.device(shared))

    def only(self, names: list[str], roots: list[int]) -> str:
        """The one device of which all of these locks are, with a context of each root being on one instance of it: so
        all that wait for each other for these locks are on the same. "" if there is none."""
        devices = {self.device(name) for name in names}
        device = devices.pop() if len(devices) == 1 else ""
        return device if device and all(self.taken[root].count(device) == 1 for root in roots) else ""
