"""Ask NVIDIA's driver through NVML. The only module that calls pynvml; decides nothing.

Each question may fail by itself (a lost GPU, a missing permission); the others are still answered.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pynvml

from qwenctl.hardware.nvidia import MigInstance, NvidiaGpu, Nvml

WSL_LIBRARY = "/usr/lib/wsl/lib/libnvidia-ml.so.1"
"""Where Windows puts NVML for WSL2; not always on the search path.

Source: NVIDIA, "CUDA on WSL User Guide".
"""
MAX_GPUS = 64
MAX_SLICES = 16
ABSENT = {pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED}


@dataclass(frozen=True, slots=True)
class GpuUsage:
    """One GPU now, named as nvidia-smi numbers it. Bytes are None where the driver does not say."""

    gpu: str
    free_bytes: int | None
    processes: tuple[tuple[int, int | None], ...]


def read_nvml(wsl_library: str = WSL_LIBRARY) -> Nvml:
    """Return NVML's answers about every GPU. An NVML error becomes a warning."""
    try:
        with session(wsl_library):
            return _read()
    except pynvml.NVMLError as error:
        if error.value in ABSENT:
            return Nvml(absent=_cause(error))
        hint = "; reboot, or install matching versions" if _is_mismatch(error) else ""
        return Nvml(errors=(f"cannot read NVIDIA GPUs: {_cause(error)}{hint}",))


def read_usage() -> tuple[GpuUsage, ...]:
    """Return the used and free memory of each GPU now; empty if there is no NVML."""
    try:
        with session():
            return tuple(
                GpuUsage(_label(index, handle), _free(handle), _processes(handle))
                for index, handle in _handles([])
            )
    except pynvml.NVMLError:
        return ()


def read_utilization() -> tuple[int, ...] | None:
    """Return how busy each GPU was in the last moment, in percent; None where the driver does not say."""
    percents: list[int] = []
    try:
        with session():
            for _index, handle in _handles([]):
                with suppress(pynvml.NVMLError):
                    percents.append(int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu))
    except pynvml.NVMLError:
        return None
    return tuple(percents) or None


def read_energy_joules() -> float | None:
    """Return what all GPUs used since their driver was loaded; None where none tells (older than Volta)."""
    joules: list[float] = []
    try:
        with session():
            for _index, handle in _handles([]):
                with suppress(pynvml.NVMLError):
                    joules.append(int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000)
    except pynvml.NVMLError:
        return None
    return sum(joules) if joules else None


@contextmanager
def session(wsl_library: str = WSL_LIBRARY) -> Iterator[None]:
    """Hold NVML open.

    Raises:
        pynvml.NVMLError: it cannot be opened.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_LIBRARY_NOT_FOUND or not _preload(wsl_library):
            raise
        pynvml.nvmlInit()
    try:
        yield
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _preload(path: str) -> bool:
    """Load the library by its path; the loader then finds it under its bare name too."""
    try:
        ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def _read() -> Nvml:
    errors: list[str] = []
    gpus: list[NvidiaGpu] = []
    for _index, handle in _handles(errors):
        try:
            memory, unified = _memory(handle, errors)
            gpus.append(
                NvidiaGpu(
                    uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
                    name=str(pynvml.nvmlDeviceGetName(handle)),
                    memory_bytes=memory,
                    unified=unified,
                    mig=_mig(handle),
                    capability=_capability(handle),
                )
            )
        except pynvml.NVMLError as error:
            errors.append(f"cannot read an NVIDIA GPU: {_cause(error)}")
    return Nvml(driver=_driver(), gpus=tuple(gpus), errors=tuple(errors), cuda=_cuda())


def _handles(errors: list[str]) -> Iterator[tuple[int, Any]]:
    for index in range(min(int(pynvml.nvmlDeviceGetCount()), MAX_GPUS)):
        try:
            yield index, pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError as error:
            errors.append(f"cannot read NVIDIA GPU {index}: {_cause(error)}")


def _driver() -> str | None:
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


def _cuda() -> str | None:
    """Return the newest CUDA version that the driver knows; NVML writes 12.4 as 12040."""
    try:
        number = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
    except pynvml.NVMLError:
        return None
    return f"{number // 1000}.{number % 1000 // 10}"


def _capability(handle: object) -> str | None:
    try:
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    except pynvml.NVMLError:
        return None
    return f"{major}.{minor}"


def _memory(handle: object, errors: list[str]) -> tuple[int | None, bool]:
    """Return the capacity, and whether the GPU has no memory of its own.

    Source: "not supported" on a GB10, driver 580: XuehaiPan/nvitop #208, leptonai/gpud #1170. A total of 0
    was reported for such machines too (Syllo/nvtop #411).
    """
    try:
        total = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_NOT_SUPPORTED:
            return None, True
        errors.append(f"cannot read an NVIDIA GPU's memory: {_cause(error)}")
        return None, False
    return (total, False) if total else (None, True)


def _mig(handle: object) -> tuple[MigInstance, ...] | None:
    try:
        current, _pending = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError:
        return None
    if current != pynvml.NVML_DEVICE_MIG_ENABLE:
        return None
    found: list[MigInstance] = []
    for index in range(MAX_SLICES):
        try:
            part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            memory, _unified = _memory(part, [])
            name, uuid = str(pynvml.nvmlDeviceGetName(part)), str(pynvml.nvmlDeviceGetUUID(part))
        except pynvml.NVMLError:
            continue
        found.append(MigInstance(uuid, name, memory))
    return tuple(found)


def _label(index: int, handle: object) -> str:
    try:
        return f"GPU {index} ({pynvml.nvmlDeviceGetName(handle)})"
    except pynvml.NVMLError:
        return f"GPU {index}"


def _free(handle: object) -> int | None:
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).free)
    except pynvml.NVMLError:
        return None


def _processes(handle: object) -> tuple[tuple[int, int | None], ...]:
    """Return compute and graphics processes, each once."""
    processes: dict[int, int | None] = {}
    for ask in (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses):
        try:
            for process in ask(handle):
                before = processes.get(int(process.pid))
                used_bytes = process.usedGpuMemory
                processes[int(process.pid)] = (
                    before if used_bytes is None else max(int(used_bytes), before or 0)
                )
        except pynvml.NVMLError:
            continue
    return tuple(processes.items())


def _is_mismatch(error: Any) -> bool:  # noqa: ANN401  # pynvml has no types
    return bool(error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)


def _cause(error: Exception) -> str:
    return str(error).rstrip(".")
