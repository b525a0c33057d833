"""Ask macOS' own programs. Reads only, and only on a Mac; what cannot be read is None.

Static facts go to ``Hardware``. How this Mac is now changes from one minute to the next, so no plan is made
of that.
"""

import subprocess
from collections.abc import Callable, Sequence

from qwenctl.hardware import apple

SYSCTL, PMSET = "/usr/sbin/sysctl", "/usr/bin/pmset"
TIMEOUT_S = 10.0
"""Each of these answers within milliseconds. One that hangs must not keep a server from its start."""

Ask = Callable[[Sequence[str]], str | None]


def _said(words: Sequence[str]) -> str | None:
    """Return what a program prints; None if it cannot be run, or hangs."""
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
    return done.stdout


def read_sysctl(keys: Sequence[str], ask: Ask = _said) -> str | None:
    """Return what ``sysctl`` prints. A key that this Mac does not have is left out.

    Without ``-i`` it ends at the first such key before macOS 14.4. Source: system_cmds 970 and 979, sysctl.c.
    """
    return ask((SYSCTL, "-i", *keys))


def read_memory_pressure(ask: Ask = _said) -> apple.MemoryPressure | None:
    """Return the pressure on memory; None where it cannot be read."""
    return apple.memory_pressure(apple.parse_sysctl(read_sysctl(apple.PRESSURE_KEYS, ask) or ""))


def read_low_power_mode(ask: Ask = _said) -> bool | None:
    """Return whether Low Power Mode is on; None where it cannot be read."""
    settings = ask((PMSET, "-g"))
    return apple.low_power_mode(settings) if settings else None
