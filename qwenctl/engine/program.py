"""What is known of a llama-server program. Pure: data only."""

from dataclasses import dataclass
from pathlib import Path

from qwenctl.engine.flags import Known

NAMED = "[server] binary"
"""The place of an engine that a person named: no other one is taken instead."""


@dataclass(frozen=True, slots=True)
class PassedOver:
    """An engine that was not taken: where it was found, its program, and why."""

    place: str
    path: str
    why: str
    hint: str | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """Which llama-server: the program's path and what it calls itself, its files, and how it was chosen.

    ``fingerprint`` changes with the program's files. ``place`` says where it was found, ``name`` is its name
    among the installed engines. ``passed_over`` are those that came first and could not be used.
    """

    path: Path
    version: str
    fingerprint: str = ""
    place: str = ""
    name: str | None = None
    passed_over: tuple[PassedOver, ...] = ()

    def is_same(self, other: "EngineIdentity") -> bool:
        """Return whether the other has the same program and files; where files are unknown, the same path."""
        known = self.fingerprint and other.fingerprint
        return self.path == other.path and (not known or self.fingerprint == other.fingerprint)

    def to_json(self) -> dict[str, object]:
        """Return what the status and a plan show of it."""
        passed = [
            {"place": one.place, "path": one.path, "why": one.why, "hint": one.hint}
            for one in self.passed_over
        ]
        return {
            "path": str(self.path),
            "version": self.version,
            "place": self.place,
            "name": self.name,
            "passed_over": passed,
        }

    @property
    def called(self) -> str:
        """What a sentence calls it: an installed one by its name, any other by its path and version."""
        return self.name if self.name is not None else str(self)

    def __str__(self) -> str:
        return f"{self.path} ({self.version})"


@dataclass(frozen=True, slots=True)
class Engine:
    """A usable llama-server: which it is, and which flags it knows."""

    identity: EngineIdentity
    known: Known

    @property
    def path(self) -> Path:
        """The program."""
        return self.identity.path

    @property
    def version(self) -> str:
        """What it calls itself."""
        return self.identity.version
