"""Raise Metal's memory limit for good: a job of the machine that sets it at each boot.

macOS forgets ``iogpu.wired_limit_mb`` at a restart, and reads no /etc/sysctl.conf, so that those who want it
for good load a LaunchDaemon that runs sysctl once.
"""

import plistlib
import re
from pathlib import Path

from qwenctl.errors import ControlError, SettingsError
from qwenctl.hardware.apple import working_set_bytes
from qwenctl.hardware.facts import Hardware
from qwenctl.hardware.macos import SYSCTL
from qwenctl.plan.budget import reserved_ram
from qwenctl.service import installed_files
from qwenctl.service.command import Run

MIB = 1 << 20
LABEL = "qwenctl.wired-limit"
PLACE = Path(f"/Library/LaunchDaemons/{LABEL}.plist")
KEY = "iogpu.wired_limit_mb"


def most_mib(hardware: Hardware) -> int:
    """Return the highest limit that leaves enough to macOS and other programs. Pure.

    Raises:
        SettingsError: the machine has no such limit.
    """
    if not any(gpu.backend == "metal" for gpu in hardware.accelerators):
        raise SettingsError("cannot set Metal's limit: only a Mac with Apple silicon has it")
    return (hardware.ram_bytes - reserved_ram(hardware.ram_bytes)) // MIB


def wanted_mib(asked: str, hardware: Hardware) -> int:
    """Return the limit that a person asks for: a number of MiB, or ``max``. Pure.

    Raises:
        SettingsError: it is no limit, one with which macOS may freeze, or less than macOS allows by itself.
    """
    most, own = most_mib(hardware), working_set_bytes(hardware.ram_bytes, 0) // MIB
    if asked == "max":
        return most
    if re.fullmatch(r"[1-9][0-9]{0,8}", asked) is None:
        raise SettingsError(
            f"cannot set Metal's limit to {asked}: no number of MiB", hint="name a number, max, or off"
        )
    if int(asked) > most:
        raise SettingsError(
            f"cannot set Metal's limit to {asked} MiB: macOS needs some memory, too",
            hint=f"at most {most} of {hardware.ram_bytes // MIB} MiB",
        )
    if int(asked) < own:
        raise SettingsError(
            f"cannot set Metal's limit to {asked} MiB: that is less than macOS' own, about {own} MiB",
            hint=f"name more, at most {most}; off leaves it to macOS",
        )
    return int(asked)


def text_of(mib: int) -> str:
    """Return the text of the job's file. Pure."""
    job = {"Label": LABEL, "ProgramArguments": [SYSCTL, f"{KEY}={mib}"], "RunAtLoad": True}
    return plistlib.dumps(job, sort_keys=False).decode()


def mib_of(text: str) -> int | None:
    """Return the limit that a job's file sets. Pure."""
    try:
        job = plistlib.loads(text.encode())
    except (ValueError, plistlib.InvalidFileException):
        return None
    words = job.get("ProgramArguments") if isinstance(job, dict) else None
    name, _, value = str(words[-1]).partition("=") if isinstance(words, list) and words else ("", "", "")
    return int(value) if name == KEY and re.fullmatch(r"[0-9]{1,9}", value) else None


def kept_mib(path: Path = PLACE) -> int | None:
    """Return the limit that is set at each boot, None if none is."""
    text = installed_files.current(path)
    return mib_of(text) if text is not None else None


def lost_limits(hardware: Hardware, path: Path = PLACE) -> list[str]:
    """Return what to say where the limit of the file is not in force: it was to be set at the boot."""
    kept = kept_mib(path) if hardware.os == "darwin" else None
    now = [(gpu.wired_limit_bytes or 0) // MIB for gpu in hardware.accelerators if gpu.backend == "metal"]
    if kept is None or kept in now or not now:
        return []
    cure = f"sudo qwenctl service wired-limit {kept}"
    return [f"Metal's limit is not the {kept} MiB that {path} sets at the boot; {cure} sets it now"]


def keep(mib: int, run: Run, path: Path = PLACE) -> list[str]:
    """Write the job, load it, and set the limit now. Return the changes.

    Raises:
        ControlError: this user may not, or launchd refuses.
    """
    changes = installed_files.write(path, text_of(mib))
    if changes:
        run(("launchctl", "bootout", f"system/{LABEL}"))
        run(("launchctl", "enable", f"system/{LABEL}"))
        loaded = run(("launchctl", "bootstrap", "system", str(path)))
        if loaded.code != 0:
            installed_files.remove(path)
            said = (loaded.err or loaded.out).partition("\n")[0].lower()
            raise ControlError(f"cannot load {path}: {said}")
    return changes + _set(mib, run)


def drop(run: Run, path: Path = PLACE) -> list[str]:
    """Unload and remove the job, and give the limit back to macOS. Return the changes.

    Raises:
        ControlError: this user may not.
    """
    if not path.exists():
        return []
    changes = installed_files.remove(path)
    run(("launchctl", "bootout", f"system/{LABEL}"))
    return changes + _set(0, run)


def _set(mib: int, run: Run) -> list[str]:
    done = run((SYSCTL, f"{KEY}={mib}"))
    if done.code != 0:
        raise ControlError(f"cannot set {KEY}: {(done.err or done.out).lower()}")
    return [f"set {KEY} to {mib}{' (the default of macOS)' if mib == 0 else ''}"]
