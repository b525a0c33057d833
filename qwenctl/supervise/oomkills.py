"""Count the processes that the kernel killed because memory ran out. Reads only."""

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def oom_kills(proc: Path = Path("/proc"), cgroups: Path = CGROUPS) -> int:
    """Return how many processes were killed so far: of our own control group, else of the machine.

    0 where no kernel counts. Source: Linux, Documentation/admin-guide/cgroup-v2.rst (memory.events) and
    cgroup-v1/memory.rst (memory.oom_control); /proc/vmstat.
    """
    for file in (*_of_our_group(proc, cgroups), proc / "vmstat"):
        count = _count(file)
        if count is not None:
            return count
    return 0


def _of_our_group(proc: Path, cgroups: Path) -> tuple[Path, ...]:
    files = []
    for line in _lines(proc / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            files.append(cgroups / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            files.append(cgroups / "memory" / path.lstrip("/") / "memory.oom_control")
    return tuple(files)


def _count(file: Path) -> int | None:
    for line in _lines(file):
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.isdecimal():
            return int(value)
    return None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
