"""Keep prompts over a restart: save slots to the disk, bring them back. Its failures cost nothing else."""

import json
import logging
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from qwenctl.gate import warm_rules as rules
from qwenctl.gate.slots import ERRORS, Slot, Slots
from qwenctl.gate.standing import Standing

log = logging.getLogger(__name__)
MANIFEST = "warm.json"
LOSSES = 2
"""So often may a child go away while a file is brought back, before the file is blamed."""


@dataclass(frozen=True, slots=True)
class WarmLimits:
    """What may be kept. ``bytes_per_token`` and ``bytes_fixed``: what a slot takes, by the plan."""

    min_tokens: int = 4096
    max_bytes: int = 8_589_934_592
    bytes_per_token: int = 0
    bytes_fixed: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """One file: a slot as it was saved."""

    slot: int
    file: str
    tokens: int
    bytes: int


class Warm:
    """Saved slots in ``folder``, which is ours alone (0700) and the child's ``--slot-save-path``.

    The child needs ``LLAMA_SERVER_SLOTS_DEBUG=1``: the text comes from the slot itself, whatever route
    made it. Nothing of it is kept here but its length and digest.
    """

    def __init__(self, folder: Path, limits: WarmLimits) -> None:
        self._folder, self._limits = folder, limits
        self._seen: dict[int, rules.Seen] = {}
        self._lost: dict[str, int] = {}
        self._slots: tuple[Standing, Slots] | None = None

    def limit(self, *, bytes_per_token: int, bytes_fixed: int) -> None:
        """Take what a slot needs by the plan that is served from now on."""
        self._limits = replace(self._limits, bytes_per_token=bytes_per_token, bytes_fixed=bytes_fixed)

    async def close(self) -> None:
        """Close what talks to the child."""
        if self._slots is not None:
            await self._slots[1].close()
            self._slots = None

    async def restore(self, standing: Standing) -> None:
        """Bring saved slots into a fresh child; remove them if they don't fit it."""
        kept = self._read(standing.shape)
        if not kept:
            return
        slots = await self._of(standing)
        for each in kept:
            try:
                tokens = await slots.restore(each.slot, each.file)
                log.info("slot=%d tokens=%d restored", each.slot, tokens)
            except ERRORS as error:
                log.warning("cannot restore slot %d: %s", each.slot, error)
                self._lost[each.file] = self._lost.get(each.file, 0) + 1
                refused = isinstance(error, ValueError)  # else the child went away under it
                if refused or self._lost[each.file] >= LOSSES:
                    self._drop(standing.shape, each)

    async def look(self, standing: Standing) -> None:
        """See what the slots hold after an answer, and so which kind of client they serve."""
        try:
            slots = await self._of(standing)
            for slot in await slots.look():
                self._see(slot)
        except ERRORS as error:
            log.info("cannot look at the slots: %s", error)

    async def save(self, standing: Standing, *, stopping: bool) -> None:
        """Save every slot that is worth it; each failure is logged, and the next slot tried."""
        try:
            slots = await self._of(standing)
            held = await slots.look()
        except ERRORS as error:
            log.warning("cannot save slots: %s", error)
            return
        for slot in held:
            seen = self._see(slot)
            if seen is None or not rules.is_worth_saving(
                slot.tokens, seen, self._limits.min_tokens, stopping=stopping
            ):
                continue
            try:
                await self._save(slots, slot, seen, standing.shape)
            except ERRORS as error:
                log.warning("cannot save slot %d: %s", slot.number, error)

    def _drop(self, shape: str, lost: Kept) -> None:
        self._write(shape, [each for each in self._read(shape) if each != lost])

    def _see(self, slot: Slot) -> rules.Seen | None:
        if slot.busy or not slot.text:
            return None
        seen = rules.see(slot.text, self._seen.get(slot.number))
        self._seen[slot.number] = seen
        return seen

    async def _save(self, slots: Slots, slot: Slot, seen: rules.Seen, shape: str) -> None:
        """Roll the slot back if need be, save it beside the old file, then let go of the old one."""
        kept = self._read(shape)
        others = [each for each in kept if each.slot != slot.number]
        old = next((each for each in kept if each.slot == slot.number), None)
        free = shutil.disk_usage(self._folder).free
        room = rules.room_bytes(self._limits.max_bytes, free, sum(each.bytes for each in others))
        need = self._limits.bytes_fixed + slot.tokens * self._limits.bytes_per_token
        if need > room:
            log.warning("cannot save slot %d: it takes %d bytes, %d are allowed", slot.number, need, room)
            return
        if (text := rules.cut(slot.text, seen)) is not None:
            await slots.roll(slot.number, text)
            seen = self._seen[slot.number] = replace(seen, rolled=rules.mark(text))
        self._lost.clear()  # a new file has a new chance
        name = f"slot-{slot.number}-{'b' if old is not None and old.file.endswith('a.bin') else 'a'}.bin"
        tokens, size = await slots.save(slot.number, name)
        if size > room or tokens == 0:
            (self._folder / name).unlink(missing_ok=True)
            log.warning("cannot keep slot %d: it took %d bytes, %d are allowed", slot.number, size, room)
            return
        self._write(shape, [*others, Kept(slot.number, name, tokens, size)])
        self._seen[slot.number] = replace(seen, saved=seen.rolled or seen.turn, saved_tokens=tokens)
        log.info("slot=%d tokens=%d bytes=%d saved", slot.number, tokens, size)

    async def _of(self, standing: Standing) -> Slots:
        """Return the calls to this child."""
        if self._slots is not None and self._slots[0].child == standing.child:
            return self._slots[1]
        await self.close()
        if standing.address is None:
            raise ValueError("no child is ready")
        self._slots = (standing, Slots(standing.address))
        return self._slots[1]

    def _read(self, shape: str) -> list[Kept]:
        """Return what was saved for this shape; what was saved for another is removed."""
        try:
            told = json.loads((self._folder / MANIFEST).read_text(encoding="utf-8"))
            kept = [Kept(**each) for each in told["slots"]]
            if told["shape"] == shape:
                return kept
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("cannot read %s: %s", self._folder / MANIFEST, error)
        self._write(shape, [])
        return []

    def _write(self, shape: str, kept: list[Kept]) -> None:
        """Note what is kept, then remove every other file."""
        text = json.dumps({"shape": shape, "slots": [asdict(each) for each in kept]})
        part = self._folder / f".{MANIFEST}"
        try:
            part.write_text(text, encoding="utf-8")
            part.chmod(0o600)
            part.replace(self._folder / MANIFEST)
            names = {each.file for each in kept}
            for path in self._folder.glob("slot-*.bin"):
                if path.name not in names:
                    path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot note saved slots in %s: %s", self._folder, error)
