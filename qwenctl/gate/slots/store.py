"""List the snapshots in ``warm.json``, beside their files. Every file that is not listed is removed."""

import json
import logging
from pathlib import Path

from pydantic import TypeAdapter

from qwenctl.files import replace_bytes
from qwenctl.gate.slots.snapshots import VERSION, Manifest

log = logging.getLogger(__name__)
MANIFEST = "warm.json"
MANIFESTS = TypeAdapter(Manifest)


class SnapshotStore:
    """The folder of the snapshots. Only its owner may enter it (0700)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, fingerprint: str) -> Manifest:
        """Return what was saved for this fingerprint; what was saved for another one is removed.

        An older qwenctl kept one file a slot, and nothing of its conversation: such files are removed.
        """
        path = self.folder / MANIFEST
        try:
            told = json.loads(path.read_bytes())
            if isinstance(told, dict) and "version" not in told and "slots" in told:
                log.info("what an older version saved is removed: %s", path)
            else:
                manifest = MANIFESTS.validate_python(told)
                if (manifest.fingerprint, manifest.version) == (fingerprint, VERSION):
                    return manifest
        except FileNotFoundError:
            return Manifest(fingerprint)
        except (OSError, ValueError) as error:
            log.warning("cannot read %s: %s", path, error)
        self.write(Manifest(fingerprint))
        return Manifest(fingerprint)

    def write(self, manifest: Manifest) -> None:
        """List what is kept, then remove every other file."""
        try:
            replace_bytes(self.folder / MANIFEST, MANIFESTS.dump_json(manifest), mode=0o600)
            names = {each.file for each in manifest.snapshots}
            for path in self.folder.glob("slot-*.bin"):
                if path.name not in names:
                    path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot list the snapshots in %s: %s", self.folder, error)
