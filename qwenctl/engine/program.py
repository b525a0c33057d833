"""What is known of a llama-server program. Pure: data only."""

from dataclasses import dataclass
from pathlib import Path

from qwenctl.engine.flags import Known


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """Which llama-server: the program's path and what it calls itself."""

    path: Path
    version: str


@dataclass(frozen=True, slots=True)
class Engine:
    """A usable llama-server: where it is, what it calls itself, which flags it knows."""

    path: Path
    version: str
    known: Known

    @property
    def identity(self) -> EngineIdentity:
        """Which llama-server it is, without its flags."""
        return EngineIdentity(self.path, self.version)
