"""Read the texts of /proc, /sys and cgroups that say what a Linux machine is. Pure: text in, facts out."""

import re
from collections.abc import Iterable

NO_LIMIT_BYTES = 1 << 60
"""cgroup v1 writes "no limit" as the largest multiple of the page size: 9,223,372,036,854,771,712.

Source: Linux, mm/page_counter.c, PAGE_COUNTER_MAX; anything above 2^60 is no machine.
"""
MAX_DEPTH = 64
ARM_PARTS = {
    ("0x41", "0xd08"): "Arm Cortex-A72",
    ("0x41", "0xd0b"): "Arm Cortex-A76",
    ("0x41", "0xd0c"): "Arm Neoverse N1",
    ("0x41", "0xd40"): "Arm Neoverse V1",
    ("0x41", "0xd42"): "Arm Cortex-A78AE",
    ("0x41", "0xd49"): "Arm Neoverse N2",
    ("0x41", "0xd4f"): "Arm Neoverse V2",
    ("0x41", "0xd85"): "Arm Cortex-X925",
    ("0x41", "0xd87"): "Arm Cortex-A725",
    ("0xc0", "0xac3"): "Ampere-1",
}
"""(implementer, part) -> name. Source: util-linux, sys-utils/lscpu-arm.c."""
PLACEHOLDERS = ("to be filled by o.e.m.", "system product name", "default string", "not specified", "none")


def cpu_model(cpuinfo: str) -> str | None:
    """Return the processor's name from /proc/cpuinfo: "model name" on x86, implementer and part on Arm."""
    fields = _fields(cpuinfo)
    if named := (fields.get("model name") or fields.get("Hardware")):
        return named
    return ARM_PARTS.get((fields.get("CPU implementer", ""), fields.get("CPU part", "")))


def machine_name(device_tree_model: str | None, product_name: str | None) -> str | None:
    """Return the maker's name of the machine, or None if it is a placeholder."""
    for text in (device_tree_model, product_name):
        name = (text or "").strip("\0 \n\t")
        if name and name.lower() not in PLACEHOLDERS:
            return name
    return None


def limit_files(cgroup: str, mountinfo: str) -> tuple[str, ...]:
    """Return every file that may limit this process' memory: its own group's and each group's above it.

    ``cgroup`` is /proc/self/cgroup, ``mountinfo`` /proc/self/mountinfo. Groups nest and the smallest limit
    holds, whichever level set it (docker, a systemd slice). Where a container sees only its own part of the
    tree, the mount's root is cut off. Above ``memory.high`` (systemd's MemoryHigh) the kernel takes memory
    back and slows the group down: it limits as ``memory.max`` does.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst; proc(5), mountinfo.
    """
    files: list[str] = []
    names: tuple[str, ...]
    for line in cgroup.splitlines():
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and controllers == "":
            kind, names = "cgroup2", ("memory.max", "memory.high")
        elif "memory" in controllers.split(","):
            kind, names = "cgroup", ("memory.limit_in_bytes",)
        else:
            continue
        for root, point in _mounts(mountinfo, kind):
            folders = _upwards(point, _below(path, root))
            files += [f"{folder}/{file}" for folder in folders for file in names]
    return tuple(dict.fromkeys(files))


def smallest_limit_bytes(texts: Iterable[str | None]) -> int | None:
    """Return the smallest limit among the texts of those files; "max" and v1's huge number are none."""
    numbers = [int(text) for text in texts if text and text.strip().isascii() and text.strip().isdigit()]
    return min((number for number in numbers if number < NO_LIMIT_BYTES), default=None)


def _fields(cpuinfo: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields


def _mounts(mountinfo: str, kind: str) -> list[tuple[str, str]]:
    """Return (root, mount point) of each mount that shows groups with a memory controller."""
    mounts: list[tuple[str, str]] = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, filesystem = before.split(" "), after.split(" ")
        if len(fields) < 6 or filesystem[0] != kind:
            continue
        if kind == "cgroup2" or "memory" in filesystem[-1].split(","):
            mounts.append((_unescaped(fields[3]), _unescaped(fields[4])))
    return mounts


def _below(path: str, root: str) -> str:
    """Return ``path`` as seen under a mount of ``root``; the mount's top where it lies elsewhere."""
    inside = path.removeprefix(root.rstrip("/")) if (path + "/").startswith(root.rstrip("/") + "/") else ""
    return "" if ".." in inside.split("/") else inside


def _upwards(point: str, path: str) -> list[str]:
    names = [name for name in path.split("/") if name][:MAX_DEPTH]
    return ["/".join((point.rstrip("/"), *names[:depth])) for depth in range(len(names), -1, -1)]


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), field)
