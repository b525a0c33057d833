"""What one run in the sandbox may use, and how it ended. Pure: no I/O."""

import signal
from dataclasses import dataclass
from typing import Literal

GIB, MIB, KIB = 2**30, 2**20, 2**10
SIGNALLED = 128
LAST_CHARACTERS = 200
Ended = Literal["exited", "time", "memory", "output"]


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one run may use. ``memory_bytes`` limits each process, and all processes together."""

    wall_s: float = 30.0
    cpu_s: int = 30
    memory_bytes: int = GIB
    file_bytes: int = 16 * MIB
    disk_bytes: int = 64 * MIB
    files: int = 4096
    processes: int = 32
    output_bytes: int = 256 * KIB


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: it ``exited`` with ``code`` (128 + N after signal N), or was stopped at a limit."""

    ended: Ended
    code: int
    output: str
    took_s: float

    @property
    def passed(self) -> bool:
        """Whether the program ended by itself with exit code 0."""
        return self.ended == "exited" and self.code == 0

    def said(self) -> str:
        """Return what it showed of its end: its last words, or else what ended it."""
        words = self.output.strip()[-LAST_CHARACTERS:]
        if words:
            return words
        if self.ended != "exited":
            return f"it reached its limit ({self.ended}) and printed nothing"
        if self.code > SIGNALLED:
            return f"{_signal_name(self.code - SIGNALLED)} ended it before it printed anything"
        return f"it ended with exit code {self.code} and printed nothing"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
