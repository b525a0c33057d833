"""Say how much memory is free now, and which programs hold the rest, for the check at launch. Reads only.

Never part of ``Hardware``: plans are made for what the machine has, not for what runs on it today.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import psutil

from qwenctl.hardware.nvml import read_usage

RAM = "RAM"


@dataclass(frozen=True, slots=True)
class Free:
    """Free memory of one place: ``RAM``, or ``GPU 0 (its name)`` as nvidia-smi numbers it.

    None where the driver does not say.
    """

    place: str
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Holder:
    """A program and what it holds in one place. Bytes are None where the driver does not say."""

    place: str
    pid: int
    name: str
    bytes: int | None


def free_bytes() -> tuple[Free, ...]:
    """Return the free memory: the RAM that a new program could get, then each NVIDIA GPU.

    Other devices' free memory is in the binary's ``--list-devices`` (``Device.free_bytes``).
    """
    gpus = (Free(usage.gpu, usage.free_bytes) for usage in read_usage())
    return (Free(RAM, psutil.virtual_memory().available), *gpus)


def holders(top: int) -> tuple[Holder, ...]:
    """Return the ``top`` users of RAM, and every program on each NVIDIA GPU, largest first in each place."""
    on_gpus = [
        Holder(usage.gpu, pid, _name(pid), used)
        for usage in read_usage()
        for pid, used in sorted(usage.processes, key=lambda process: -(process[1] or 0))
    ]
    return (*largest(_in_ram(), top), *on_gpus)


def largest(holders: Iterable[Holder], top: int) -> tuple[Holder, ...]:
    """Return the ``top`` largest, equal ones in the order of their pids."""
    return tuple(sorted(holders, key=lambda holder: (-(holder.bytes or 0), holder.pid))[:top])


def _in_ram() -> Iterator[Holder]:
    for process in psutil.process_iter(["name", "memory_info"]):
        memory = process.info["memory_info"]
        if memory is not None:
            yield Holder(RAM, process.pid, process.info["name"] or "?", memory.rss)


def _name(pid: int) -> str:
    """Return the program's name; a container may show pids of processes it cannot see."""
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "?"
