"""Locks and levels: the primitives of kernel models, section 5."""

from __future__ import annotations

from modelcheck import syntax as s
from modelcheck.interpret.code import LockOp
from modelcheck.interpret.memory import Memory
from modelcheck.interpret.state import Over
from modelcheck.interpret.values import ANY_TAG, FREED, INITIALISED, MAX_COUNT, UNINITIALISED, Target
from modelcheck.verdict import DISPATCH_LEVEL, HIGH_LEVEL, NO_LEVEL, PASSIVE_LEVEL, Property


class Locks(Memory):
    """`init`, `free`, `acquire`, `release`, `convert`, `raise`, `lower`, `read`, `write`."""

    def _lock_op(self, op: LockOp) -> None:
        lock = self._lock(self._place(op.place))
        if lock is not None and op.verb != "init":
            self._use(lock, op.verb == "free")
        stack = self.state.frames[-1].stack
        match op.verb:
            case "init":
                self._init(lock)
            case "free":
                self._free(lock)
            case "acquire":
                self._acquire(lock, op.mode, op.tag)
            case "release":
                self._release(lock, op.mode, op.tag)
            case "convert":
                self._convert(lock, op.mode)
            case "try_acquire":
                stack.append(int(self._try_acquire(lock, op.mode, op.tag)))
            case _:
                stack.append(int(self._try_convert(lock)))

    def _use(self, lock: str, frees: bool) -> None:
        """What others may see of the use of a lock."""

    def _has_life(self, lock: str) -> bool:
        kind = self.tables.kind_of(lock)
        return kind is not None and kind.init_required

    def _init(self, lock: str | None) -> None:
        if lock is None:
            return
        if lock in self.state.holds or (self._has_life(lock) and self.state.lives[lock] == INITIALISED):
            self._fail(Property.B05, lock)
        self.state.lives[lock] = INITIALISED
        self.state.freed -= {lock}
        self.touched.add(lock)

    def _free(self, lock: str | None) -> None:
        if lock is None:
            return
        if lock in self.state.holds or (self._has_life(lock) and self.state.lives[lock] != INITIALISED):
            self._fail(Property.B06, lock)
        self.state.lives[lock] = FREED
        self.state.freed |= {lock}
        self.touched.add(lock)

    def _alive(self, lock: str) -> None:
        """B05 and B06 where a lock is used."""
        if self._has_life(lock):
            if self.state.lives[lock] == UNINITIALISED:
                self._fail(Property.B05, lock)
            elif self.state.lives[lock] == FREED:
                self._fail(Property.B06, lock)

    def _admits(self, lock: str, shared: bool) -> bool:
        """Whether the context may take the lock (once more) in that mode without waiting for itself."""
        held = self.state.holds.get(lock)
        if held is None:
            return True
        kind = self.tables.kind_of(lock)
        wanted = s.Mode.SHARED if shared else s.Mode.EXCLUSIVE
        under = s.Mode.SHARED if held[0] else s.Mode.EXCLUSIVE
        return kind is not None and any(r.mode is wanted and r.under is under for r in kind.recursion)

    def _open(self, lock: str, shared: bool) -> bool:
        """Whether other contexts leave the lock to be taken in that mode; for one alone they do."""
        return True

    def _sole(self, lock: str) -> bool:
        """Whether no other context holds the lock; for one alone there is none."""
        return True

    def _take(self, lock: str, shared: bool, tag: str | None) -> None:
        """The hold counts up. What others wrote to the variables it guards is seen from now on."""
        held = self.state.holds.get(lock)
        if held is not None:
            self.state.holds[lock] = (held[0], min(held[1] + 1, MAX_COUNT), held[2])
            return
        self.state.holds[lock] = (shared, 1, tag)
        for name, guards in self.guards.items():
            if lock in guards:
                self._interfere(("var", name), unless_guarded=False)

    def _acquire(self, lock: str | None, mode: s.Mode, tag: str | None) -> None:
        if lock is None:
            raise Over("waits for a lock that a handle does not name")
        self._alive(lock)
        self._in_order(lock)
        shared = mode is s.Mode.SHARED
        if not self._admits(lock, shared):
            self._fail(Property.B01, lock)
            raise Over("waits for ever")
        self._take(lock, shared, tag)

    def _in_order(self, lock: str) -> None:
        """Members of an `ordered` family are acquired by rising index."""
        family, _, index = lock.partition("[")
        if index and self.tables.instances[lock].ordered:
            held = [name.partition("[") for name in self.state.holds]
            if any(of == family and int(other[:-1]) > int(index[:-1]) for of, _, other in held if other):
                self._fail(Property.C02, lock, f"the members of {family} are acquired by rising index")

    def _try_acquire(self, lock: str | None, mode: s.Mode, tag: str | None) -> bool:
        if lock is None:
            return False
        self._alive(lock)
        shared = mode is s.Mode.SHARED
        if not self._admits(lock, shared) or not self._open(lock, shared) or not self.choose("try", self.tries):
            return False
        self._take(lock, shared, tag)
        return True

    def _release(self, lock: str | None, mode: s.Mode, tag: str | None) -> None:
        held = self.state.holds.get(lock or "")
        if lock is None or held is None:
            self._fail(Property.B02, lock or "")
            return
        shared, count, own_tag = held
        wrong_mode = mode is not s.Mode.EITHER and shared is not (mode is s.Mode.SHARED)
        wrong_tag = tag is not None and own_tag not in (tag, ANY_TAG)
        if wrong_mode or wrong_tag:
            self._fail(Property.B04, lock)
        if self.state.clocks.get(lock, 0) > self.limit:
            self._fail(Property.T01, lock)
        left = self.choose(f"count {lock}", (MAX_COUNT - 1, MAX_COUNT)) if count == MAX_COUNT else count - 1
        if not left:
            self.state.clocks.pop(lock, None)
        if left:
            self.state.holds[lock] = (shared, left, own_tag)
        else:
            del self.state.holds[lock]

    def _convert(self, lock: str | None, mode: s.Mode) -> None:
        held = self.state.holds.get(lock or "")
        if lock is None or held is None:
            self._fail(Property.B02, lock or "")
            return
        shared = mode is s.Mode.SHARED
        if held[0] is shared:
            self._fail(Property.B04, lock)
        self.state.holds[lock] = (shared, held[1], held[2])

    def _try_convert(self, lock: str | None) -> bool:
        held = self.state.holds.get(lock or "")
        if lock is None or held is None:
            self._fail(Property.B02, lock or "")
            return False
        if not held[0]:
            self._fail(Property.B04, lock)
            return False
        if not self._sole(lock) or not self.choose("try", self.tries):
            return False
        self.state.holds[lock] = (False, held[1], held[2])
        return True

    def _change(self, level: int, up: bool) -> None:
        """`raise` and `lower`. NO_LEVEL, which was never written, leaves the level as it was."""
        state = self.state
        before = state.irql
        if level < before if up else level > before:
            self._fail(Property.I04, state.frames[-1].callee)
        if level != NO_LEVEL:
            state.irql = max(PASSIVE_LEVEL, min(level, HIGH_LEVEL))
        if state.irql < before and any(state.irql < self._floor(lock) for lock in state.holds):
            self._fail(Property.I05, state.frames[-1].callee)

    def _floor(self, lock: str) -> int:
        """The level below which the IRQL must not drop while the lock is held."""
        kind = self.tables.kind_of(lock)
        if kind is None or not kind.spins or kind.level is None:
            return PASSIVE_LEVEL
        decl = self.tables.instances[lock]
        name = decl.name.rpartition(".")[0]
        if decl.span in {i.span for i in self.program.interrupts.values() if i.name == name}:
            level = self.program.constant(self.program.interrupts[name].level)
        else:
            level = self.program.constant(kind.level)
        return PASSIVE_LEVEL if level is None else level

    def _touch(self, target: Target, write: bool) -> None:
        """`read D` and `write D`: R01 for the guards, I06 for pageable data."""
        name = str(target[1])
        if target[0] == "var":
            self._guarded(name, write)
            return
        for guard in self.data_guards.get(name, ()):
            held = self.state.holds.get(guard)
            if held is None or (write and held[0]):
                self._fail(Property.R01, name)
                break
        decl = self.program.data.get(name)
        if decl is not None and decl.paged and self.state.irql >= DISPATCH_LEVEL:
            self._fail(Property.I06, name)
