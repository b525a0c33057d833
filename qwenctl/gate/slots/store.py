"""List the saved slots in ``warm.json``, beside their files. Every file that is not listed is removed."""

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
    """One file: the slot it was saved from, and what was known of its client, without any text."""

    slot: int
    file: str
    tokens: int
    bytes: int
    history: SlotHistory


@dataclass(frozen=True, slots=True)
class Manifest:
    """The slots that were saved for one fingerprint (``slots.rules.fingerprint``)."""

    fingerprint: str
    slots: tuple[SavedSlot, ...]


MANIFESTS = TypeAdapter(Manifest)


class SlotStore:
    """The folder of the saved slots. Only its owner may enter it (0700)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, fingerprint: str) -> tuple[SavedSlot, ...]:
        """Return what was saved for this fingerprint; what was saved for another one is removed."""
        try:
            manifest = MANIFESTS.validate_json((self.folder / MANIFEST).read_bytes())
            if manifest.fingerprint == fingerprint:
                return manifest.slots
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            log.warning("cannot read %s: %s", self.folder / MANIFEST, error)
        self.write(fingerprint, ())
        return ()

    def write(self, fingerprint: str, kept: tuple[SavedSlot, ...]) -> None:
        """List what is kept, then remove every other file."""
        manifest = MANIFESTS.dump_json(Manifest(fingerprint, kept))
        try:
            replace_bytes(self.folder / MANIFEST, manifest, mode=0o600)
            names = {each.file for each in kept}
            for path in self.folder.glob("slot-*.bin"):
                if path.name not in names:
                    path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot list the saved slots in %s: %s", self.folder, error)
