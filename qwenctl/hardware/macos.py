"""Ask macOS how this Mac is now. Reads only, and only on a Mac; what cannot be read is None.

Static facts are in ``Hardware``; these change from one minute to the next, so no plan is made of them.
"""

import subprocess
from collections.abc import Callable, Sequence

from qwenctl.hardware import apple

SYSCTL, PMSET = "/usr/sbin/sysctl", "/usr/bin/pmset"
TIMEOUT_S = 5.0
"""Each of these answers within milliseconds. One that hangs must not keep a server from its start."""

Ask = Callable[[Sequence[str]], str | None]


def _said(words: Sequence[str]) -> str | None:
    """Return what a program prints; None if it fails."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def read_memory_pressure(ask: Ask = _said) -> apple.MemoryPressure | None:
    """Return the pressure on memory; None where it cannot be read."""
    return apple.memory_pressure(apple.parse_sysctl(ask((SYSCTL, "-i", *apple.PRESSURE_KEYS)) or ""))


def read_low_power_mode(ask: Ask = _said) -> bool | None:
    """Return whether Low Power Mode is on; None where it cannot be read."""
    settings = ask((PMSET, "-g"))
    return None if settings is None else apple.low_power_mode(settings)
