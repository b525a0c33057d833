"""Watch what a server uses while it works: its memory, its GPU memory, energy. Only reads."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import psutil

from qwenctl.hardware.nvml import read_energy_joules, read_usage

EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """The highest memory use in bytes, and the energy of all GPUs. A value is None where it is unknown."""

    process_bytes: int | None = None
    gpu_bytes: int | None = None
    gpu_joules: float | None = None


class ResourceMonitor:
    """Watches one process while the context is open; then ``usage`` is set. Without a pid it stays empty."""

    def __init__(self, pid: int | None) -> None:
        self.usage = ResourceUsage()
        self._pid = pid
        self._seen: list[tuple[int | None, int | None]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._joules: float | None = None

    def __enter__(self) -> "ResourceMonitor":
        self._joules = read_energy_joules() if self._pid is not None else None
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        joules = read_energy_joules() if self._joules is not None else None
        spent = None if joules is None or self._joules is None else joules - self._joules
        self.usage = ResourceUsage(
            _most([row[0] for row in self._seen]), _most([row[1] for row in self._seen]), spent
        )

    def _watch(self) -> None:
        while self._pid is not None:
            self._seen.append((_resident(self._pid), _on_gpus(self._pid)))
            if self._done.wait(EVERY_S):
                return


def _resident(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def _on_gpus(pid: int) -> int | None:
    used = [
        size for gpu in read_usage() for process, size in gpu.processes if process == pid and size is not None
    ]
    return sum(used) if used else None


def _most(values: Sequence[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
