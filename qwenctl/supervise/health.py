"""Measure what a running server does: slots, CPU time, GPUs, the traffic through the gate."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import psutil

from qwenctl.engine.api import ERRORS, ServerApi
from qwenctl.engine.slot import Slot
from qwenctl.hardware.gpu_load import GpuLoad, no_gpu
from qwenctl.launch.spec import LaunchSpec
from qwenctl.settings.key_file import read_keys
from qwenctl.supervise.wedge import ServerSample, Traffic

SLOTS_TIMEOUT_S = 5.0
PROC = Path("/proc")


def api_of(spec: LaunchSpec) -> ServerApi:
    """Return a client of the server that ``spec`` starts, with its key where it asks for one itself."""
    key = None
    if spec.key_file is not None:
        try:
            key = next(iter(read_keys(Path(spec.key_file))), None)
        except (OSError, UnicodeDecodeError):
            key = None  # the server could not read the file either, and says so
    return ServerApi(spec.address, key)


async def generates(spec: LaunchSpec, timeout_s: float, *, empty: bool = False) -> bool:
    """Return whether the server generated a token; see ``ServerApi.generates``."""
    async with api_of(spec) as api:
        return await api.generates(timeout_s, empty=empty)


async def refusal(spec: LaunchSpec, timeout_s: float) -> str | None:
    """Return what the server says in place of a token; see ``ServerApi.refusal``."""
    async with api_of(spec) as api:
        return await api.refusal(timeout_s)


async def measure(
    spec: LaunchSpec,
    pid: int,
    timeout_s: float,
    traffic: Callable[[], Traffic | None],
    gpu: Callable[[int], Awaitable[GpuLoad]] = no_gpu,
) -> ServerSample:
    """Return what the server does now. A server that the gate knows to be idle is not asked, nor is its GPU.

    ``gpu`` measures what the GPUs of a process do.
    """
    seen = traffic()
    if seen is not None and seen.in_flight == 0:
        return ServerSample(time.monotonic(), seen, cpu_s=_cpu_s(pid))
    slots = await _slots(spec, min(timeout_s, SLOTS_TIMEOUT_S))
    load = await gpu(pid)
    now = time.monotonic()
    return ServerSample(
        now, seen, slots, _cpu_s(pid), _runnable(pid), load.busy, load.work, stopped=_stopped(pid)
    )


async def _slots(spec: LaunchSpec, timeout_s: float) -> tuple[Slot, ...] | None:
    async with api_of(spec) as api:
        try:
            slots = await api.slots(timeout_s)
        except ERRORS:
            return None
    return tuple(replace(slot, text="") for slot in slots) or None  # clients' texts are not kept


def _cpu_s(pid: int) -> float | None:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return times.user + times.system


def _stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def _runnable(pid: int) -> bool | None:
    """Return whether a thread runs, waits for a CPU or for the disk. Source: proc(5), R and D in stat."""
    try:
        return any(_state(task) in ("R", "D") for task in (PROC / str(pid) / "task").iterdir())
    except OSError:
        return None  # no such place, or it is gone


def _state(task: Path) -> str:
    return (task / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
