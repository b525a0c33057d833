"""Note which slots were saved, in ``warm.json`` beside their files; remove every file not named there."""

import logging
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from qwenctl.files import replace_bytes
from qwenctl.gate.slots.rules import SlotHistory

log = logging.getLogger(__name__)
MANIFEST = "warm.json"


@dataclass(frozen=True, slots=True)
class SavedSlot:
    """One file: a slot as it was saved, and what was known of its client, without any text."""

    slot: int
    file: str
    tokens: int
    bytes: int
    seen: SlotHistory


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was saved for one shape (warm_rules.shape_of)."""

    shape: str
    slots: tuple[SavedSlot, ...]


MANIFESTS = TypeAdapter(Manifest)


class SlotStore:
    """The folder of the saved slots, which is ours alone (0700)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, shape: str) -> tuple[SavedSlot, ...]:
        """Return what was saved for this shape; what was saved for another is removed."""
        try:
            manifest = MANIFESTS.validate_json((self.folder / MANIFEST).read_bytes())
            if manifest.shape == shape:
                return manifest.slots
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            log.warning("cannot read %s: %s", self.folder / MANIFEST, error)
        self.write(shape, ())
        return ()

    def write(self, shape: str, kept: tuple[SavedSlot, ...]) -> None:
        """Note what is kept, then remove every other file."""
        manifest = MANIFESTS.dump_json(Manifest(shape, kept))
        try:
            replace_bytes(self.folder / MANIFEST, manifest, mode=0o600)
            names = {each.file for each in kept}
            for path in self.folder.glob("slot-*.bin"):
                if path.name not in names:
                    path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot note saved slots in %s: %s", self.folder, error)
