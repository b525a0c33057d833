"""Measure whether the GPUs of a process work now. Decides nothing.

A driver that hangs may never answer: it is asked in a thread, one question at a time, and not waited for.
"""

import asyncio
import contextlib
import re
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from qwenctl.hardware.facts import Accelerator
from qwenctl.hardware.memory_kind import vendor_of
from qwenctl.hardware.nvml import read_utilization

ANSWER_S = 2.0
"""A driver answers within milliseconds; one that hangs is not waited for."""
BUSY_PERCENT = 5
"""A GPU that only shows a desktop is mostly below this."""
PROC, DRM = Path("/proc"), Path("/sys/class/drm")
DRM_WORK = re.compile(r"^drm-(?:engine|cycles)-[\w-]+:\s*(\d+)", re.MULTILINE)
"""Time or cycles that one file of a process has used of one engine of a GPU.

Source: Linux, Documentation/gpu/drm-usage-stats.rst; written by amdgpu, i915, xe and others.
"""


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """What the GPUs of a process do. ``busy`` None is unknown. ``work`` grows while the process uses one."""

    busy: bool | None = False
    work: int | None = None


ReadLoad = Callable[[int], Awaitable[GpuLoad]]


async def no_gpu(pid: int) -> GpuLoad:
    """Return the load of a process that uses no GPU."""
    del pid
    return GpuLoad()


@dataclass(slots=True)
class GpuWatch:
    """Asks the drivers. ``asking`` is the question that has no answer yet."""

    nvidia: Callable[[], tuple[int, ...] | None] = read_utilization
    drm: Path = DRM
    proc: Path = PROC
    answer_s: float = ANSWER_S
    asking: threading.Thread | None = field(default=None, init=False)

    def reader(self, used: tuple[Accelerator, ...]) -> ReadLoad:
        """Return what measures the load of a process on these accelerators."""

        async def read(pid: int) -> GpuLoad:
            if self.asking is not None and self.asking.is_alive():
                return GpuLoad(None)
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[GpuLoad] = loop.create_future()

            def settle(load: GpuLoad) -> None:
                if not answer.done():
                    answer.set_result(load)

            def ask() -> None:
                load = self.measure(used, pid)
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(settle, load)

            self.asking = threading.Thread(target=ask, name="gpu", daemon=True)
            self.asking.start()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.answer_s):
                    return await answer
            return GpuLoad(None)

        return read

    def measure(self, used: tuple[Accelerator, ...], pid: int) -> GpuLoad:
        """Ask the drivers of these accelerators, and wait for them. Another maker's driver may hang."""
        makers = {vendor_of(each.backend, each.name) for each in used}
        percents = {
            "nvidia": self.nvidia() if "nvidia" in makers else None,
            "amd": amd_percents(self.drm) if "amd" in makers else None,
        }
        work = drm_work(_read_all((self.proc / str(pid)).glob("fdinfo/*")))
        return GpuLoad(is_busy(used, percents), work)


def is_busy(used: tuple[Accelerator, ...], percents: dict[str, tuple[int, ...] | None]) -> bool | None:
    """Return whether one of these accelerators works. A maker's cards cannot be told apart, so any counts."""
    if not used:
        return None
    known = [percents.get(vendor_of(each.backend, each.name) or "") for each in used]
    if any(percent >= BUSY_PERCENT for each in known for percent in each or ()):
        return True
    return False if all(known) else None


def amd_percents(drm: Path) -> tuple[int, ...] | None:
    """Return how busy each AMD GPU is, in percent; None where no driver says.

    Source: Linux, Documentation/gpu/amdgpu/thermal.rst, gpu_busy_percent.
    """
    texts = _read_all(drm.glob("card[0-9]*/device/gpu_busy_percent"))
    return tuple(int(text) for text in texts if text.strip().isdigit()) or None


def drm_work(texts: Iterable[str]) -> int | None:
    """Return what a process has used of all GPUs; None where its files say nothing, or only zeros."""
    counts = [int(number) for text in texts for number in DRM_WORK.findall(text)]
    return sum(counts) or None


def _read_all(paths: Iterable[Path]) -> list[str]:
    """Return the texts that can be read. A file may go while it is looked at."""
    texts = []
    with contextlib.suppress(OSError):
        for path in paths:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                texts.append(path.read_text(encoding="ascii"))
    return texts
