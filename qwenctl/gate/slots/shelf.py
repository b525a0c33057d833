"""The snapshots that are kept for the engine in force: which there are, and which must go."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from qwenctl.gate.slots.restore_record import RestoreRecord
from qwenctl.gate.slots.snapshots import Manifest, Snapshot, room_for
from qwenctl.gate.slots.store import SnapshotStore

log = logging.getLogger(__name__)
MAX_LOSSES = 2
"""A file is removed when so many children went away while they restored it."""


class SnapshotShelf:
    """All snapshots of one engine, and what it was seen to do with them. Every change is written at once."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store, self._manifest = store, Manifest("")
        self._losses: dict[str, int] = {}
        self._number = 0

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._store.folder

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """What is kept."""
        return self._manifest.snapshots

    @property
    def fingerprint(self) -> str:
        """The engine, model and flags in force."""
        return self._manifest.fingerprint

    @property
    def files(self) -> frozenset[str]:
        """The names of their files."""
        return frozenset(each.file for each in self.snapshots)

    @property
    def record(self) -> RestoreRecord:
        """What this engine was seen to do."""
        return self._manifest.record

    def open(self, fingerprint: str) -> None:
        """Read what was saved for this fingerprint; what was saved for another one is removed."""
        self._manifest = self._store.read(fingerprint)

    def new_file(self) -> str:
        """Return the name of a file that there is not yet."""
        taken = {each.file for each in self.snapshots}
        while (name := f"slot-{self._number}.bin") in taken:
            self._number += 1
        self._number += 1
        return name

    def make_room(self, need: int, max_bytes: int, snapshot: Snapshot, instead: Snapshot | None) -> bool:
        """Remove what must go for a file of ``need`` bytes; return False if it is too large.

        ``instead``: the file that it will take the place of. It stays until then, and counts no more.
        """
        others = tuple(each for each in self.snapshots if each.file not in (snapshot.file, _file(instead)))
        free = shutil.disk_usage(self.folder).free
        kept = room_for(others, need, max_bytes, free)
        if kept is None:
            return False
        if len(kept) < len(others):
            gone = set(others) - set(kept)
            log.info("%d snapshots make room for another", len(gone))
            self._set(tuple(each for each in self.snapshots if each not in gone))
        return True

    def put(self, snapshot: Snapshot, instead: Snapshot | None) -> None:
        """Keep a snapshot whose file is whole, and remove the one whose place it takes."""
        self._losses.clear()  # a new file is tried again from the start
        self._set((*(each for each in self.snapshots if each.file != _file(instead)), snapshot))

    def remove(self, snapshot: Snapshot) -> None:
        """Remove a snapshot and its file."""
        self._set(tuple(each for each in self.snapshots if each.file != snapshot.file))

    def lost(self, snapshot: Snapshot, *, refused: bool) -> bool:
        """Note that a child refused a file, or went away over it; return whether it was removed."""
        self._losses[snapshot.file] = self._losses.get(snapshot.file, 0) + 1
        if refused or self._losses[snapshot.file] >= MAX_LOSSES:
            self.remove(snapshot)
            return True
        return False

    def used(self, snapshot: Snapshot, at: int) -> Snapshot:
        """Note that a snapshot was used. It is written with the next change: it only orders what must go."""
        now = replace(snapshot, used=at)
        kept = tuple(now if each.file == snapshot.file else each for each in self.snapshots)
        self._manifest = replace(self._manifest, snapshots=kept)
        return now

    def judge(self, record: RestoreRecord) -> None:
        """Keep what the engine was seen to do."""
        if record != self.record:
            self._manifest = replace(self._manifest, record=record)
            self._store.write(self._manifest)

    def _set(self, snapshots: tuple[Snapshot, ...]) -> None:
        self._manifest = replace(self._manifest, snapshots=snapshots)
        self._store.write(self._manifest)


def _file(snapshot: Snapshot | None) -> str:
    return "" if snapshot is None else snapshot.file
