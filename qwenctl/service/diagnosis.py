"""Judge the facts that doctor collects: ok, worth a note, or a problem with a fix. Pure: no I/O."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

CheckVerdict = Literal["ok", "note", "problem"]
GB = 10**9
MARGIN_BYTES = 512 * 2**20
"""The space that a download leaves free."""
MIN_FILES = 1024
"""Descriptors that a busy gate needs: two for each of 256 waiting and 256 running requests."""
SWAPPED_PERCENT = 50
READ_WRITE = 0o6


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was looked at, the finding, and the fix for a problem."""

    name: str
    looked_at: str
    finding: str
    verdict: CheckVerdict = "ok"
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A device file, or a folder: its path, mode bits, owner and group."""

    path: str
    mode: int
    owner: int
    group: int


def left_over(looked: str, pid: int, executable: str) -> Check:
    """Return the check of a server that outlived its daemon."""
    finding = f"{executable} (pid {pid}) still runs, though its daemon was killed"
    return Check("leftover", looked, finding, "problem", "qwenctl down ends it; so does the next qwenctl up")


def failed(name: str, looked_at: str, message: str, hint: str | None) -> Check:
    """Return the check for an error: the error's message, with its hint as the fix."""
    return Check(name, looked_at, message, "problem", hint)


def backend(
    path: str, devices: tuple[str, ...], accelerators: tuple[str, ...], reason: str | None = None
) -> Check:
    """Judge whether the binary can use the machine's accelerators, each named ``backend name``.

    ``reason``: what the binary said of a list without devices.
    """
    looked = f"{path} --list-devices"
    if reason is not None and not devices:
        have = f", but this machine has {', '.join(accelerators)}" if accelerators else ""
        hint = "look at the card's driver: nvidia-smi, rocminfo or vulkaninfo must show the card"
        return Check("backend", looked, f"finds no device ({reason}){have}", "problem", hint)
    if not accelerators:
        return Check("backend", looked, "no accelerator in this machine; the model runs on the CPU")
    if devices:
        return Check("backend", looked, f"uses {', '.join(devices)}")
    return Check(
        "backend",
        looked,
        f"finds no device, but this machine has {', '.join(accelerators)}",
        "problem",
        f"install a llama-server built for {accelerators[0].partition(' ')[0]} and set [server] binary",
    )


def driver(warnings: tuple[str, ...], system: str) -> Check:
    """Judge the warnings of hardware detection."""
    looked = "sysctl" if system == "darwin" else "NVML, sysfs"
    if not warnings:
        return Check("driver", looked, "no warnings")
    return Check("driver", looked, "; ".join(warnings), "note", "see qwenctl hardware")


def visible(
    nodes: tuple[Node, ...], user: str, uid: int, groups: frozenset[int], names: Mapping[int, str]
) -> Check:
    """Judge whether the service's user may use each device file. ``names`` are the groups' names."""
    looked = (
        f"{', '.join(node.path for node in nodes) or '/dev/nvidia*, /dev/dri/renderD*, /dev/kfd'} as {user}"
    )
    forbidden = [node for node in nodes if not may_use(node, uid, groups)]
    if not nodes:
        return Check("gpu access", looked, "there are no device files")
    if not forbidden:
        return Check("gpu access", looked, "may read and write all of them")
    missing_groups = sorted({names.get(node.group, str(node.group)) for node in forbidden})
    return Check(
        "gpu access",
        looked,
        f"may not use {', '.join(node.path for node in forbidden)}",
        "problem",
        f"sudo usermod -aG {','.join(missing_groups)} {user}, then log in again, or restart the service",
    )


def may_use(node: Node, uid: int, groups: frozenset[int]) -> bool:
    """Return whether that user may read and write. Source: path_resolution(7)."""
    if uid == 0:
        return True
    if node.owner == uid:
        return (node.mode >> 6) & READ_WRITE == READ_WRITE
    if node.group in groups:
        return (node.mode >> 3) & READ_WRITE == READ_WRITE
    return node.mode & READ_WRITE == READ_WRITE


def disk(folder: str, free_bytes: int, needed_bytes: int) -> Check:
    """Judge whether the rest of the download fits on the disk."""
    finding = f"{free_bytes / GB:.1f} GB free, {needed_bytes / GB:.1f} GB still to download"
    if needed_bytes == 0 or free_bytes >= needed_bytes + MARGIN_BYTES:
        return Check("disk", folder, finding)
    return Check(
        "disk",
        folder,
        finding,
        "problem",
        "qwenctl fetch --prune removes unused files; or set HF_HOME to a folder on a larger disk",
    )


def owned(what: str, node: Node | None, path: str, uid: int, *, private: bool) -> Check:
    """Judge the owner and the mode of a folder. ``node`` None: the folder does not exist yet."""
    if node is None:
        return Check(what, path, "does not exist yet")
    if node.owner != uid:
        cure = f"sudo chown -R {uid} {shlex.quote(path)}"
        return Check(what, path, f"belongs to user {node.owner}, not {uid}", "problem", cure)
    if private and node.mode & 0o077:
        return Check(
            what,
            path,
            f"other users may open it (mode {node.mode & 0o777:o})",
            "problem",
            f"chmod 700 {shlex.quote(path)}",
        )
    return Check(what, path, f"right owner, mode {node.mode & 0o777:o}")


def files_limit(files: int) -> Check:
    """Judge how many files the daemon may open, once it has raised its limit. Negative: there is no limit."""
    if 0 <= files < MIN_FILES:
        return Check("nofile", "ulimit -Hn", f"{files} files", "problem", f"ulimit -Hn {MIN_FILES} or more")
    return Check("nofile", "ulimit -Hn", "no limit" if files < 0 else f"the daemon may open {files} files")


def memlock(soft_bytes: int, *, wanted: bool, system: str = "linux") -> Check:
    """Judge how much memory may be locked. It matters only if the settings ask for locking.

    A negative number means no limit.
    """
    finding = "no limit" if soft_bytes < 0 else f"{soft_bytes} bytes"
    if wanted and soft_bytes >= 0:
        cure = "raise memlock in /etc/security/limits.conf; the system service needs no change"
        if system == "darwin":
            cure = "ulimit -l unlimited in the shell that runs qwenctl up"
        return Check("memlock", "ulimit -l, [server] extra_args", finding, "problem", cure)
    return Check(
        "memlock",
        "ulimit -l, [server] extra_args",
        finding if wanted else f"{finding}; the settings ask for no locking",
    )


def swap(total_bytes: int, used_percent: float) -> Check:
    """Judge swap: a model in swap answers a hundred times slower."""
    if total_bytes == 0:
        return Check("swap", "swap devices", "none; when memory runs out, the kernel ends a program")
    finding = f"{used_percent:.0f} % of {total_bytes / GB:.1f} GB in use"
    if used_percent > SWAPPED_PERCENT:
        return Check(
            "swap", "swap devices", finding, "note", "close other programs, or choose a smaller quant"
        )
    return Check("swap", "swap devices", finding)


def fits(planned: str, verdict: str, fix: str | None) -> Check:
    """Judge the plan for this machine, and on a Mac also Metal's memory limit."""
    if verdict == "fits":
        return Check("plan", planned, "fits")
    return Check("plan", planned, verdict, "problem" if fix else "note", fix)


def lingering(user: str, *, lingers: bool) -> Check:
    """Judge whether a user's service runs while the user is not logged in."""
    looked = f"/var/lib/systemd/linger/{user}"
    if lingers:
        return Check("linger", looked, "runs from boot on")
    return Check(
        "linger", looked, "runs only while you are logged in", "note", "qwenctl service install --linger"
    )


def endings(status: Mapping[str, object] | None, looked: str) -> Check:
    """Judge how the server ended the last time."""
    if status is None:
        return Check("last endings", looked, "the daemon is not running")
    last, restarts = status.get("last_ending"), status.get("restarts")
    if not isinstance(last, dict):
        return Check("last endings", looked, f"none; phase {status.get('phase')}")
    total = restarts.get("total") if isinstance(restarts, dict) else "?"
    finding = f"phase {status.get('phase')}, {total} restarts; the last ending: {last.get('summary')}"
    if status.get("phase") in ("failed", "backoff"):
        return Check("last endings", looked, finding, "problem", str(last.get("hint") or "qwenctl logs"))
    return Check("last endings", looked, finding, "note", "qwenctl events shows when and why")
