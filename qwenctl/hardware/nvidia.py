"""Turn NVML's answers into accelerators. Pure: no I/O; nvml.py asks the driver."""

import re
from dataclasses import dataclass, replace

from qwenctl.hardware.facts import Accelerator

NOT_ANSWERED = "this machine has an NVIDIA GPU, but "
"""How a warning begins of a card that no driver of NVIDIA's answers for."""
FROM_A_CONTAINER = "start the container with --gpus all (docker) or --device nvidia.com/gpu=all (podman)"
"""Source: NVIDIA Container Toolkit, "Running a Sample Workload" and "Support for CDI"."""
WAYS_OUT = (
    (
        re.compile(r"Unknown Error"),
        "restart the container (a systemctl daemon-reload of the host takes the GPUs from it), or reboot",
    ),
    (re.compile(r"Insufficient Permissions|No Permission"), "let this user open /dev/nvidia*: group video"),
    (re.compile(r"GPU is lost|fallen off the bus"), "reboot (dmesg names the Xid)"),
    (re.compile(r"requires.*reset|reset required", re.IGNORECASE), "reset the GPU: nvidia-smi --gpu-reset"),
    (re.compile(r"Out of memory", re.IGNORECASE), "reboot"),
)
"""Texts of NVML's errors, and what helps.

Source: nvmlErrorString; NVIDIA/nvidia-container-toolkit issue 48; NVIDIA, "Xid Errors".
"""


@dataclass(frozen=True, slots=True)
class MigInstance:
    """One slice of a GPU in MIG mode."""

    uuid: str
    name: str
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class NvidiaGpu:
    """NVML's answers about one GPU.

    ``unified`` means its memory query answered "not supported": the GPU has no memory of its own. ``mig``
    holds the slices where MIG is on, and is None where it is off. ``capability`` is its compute capability.
    """

    uuid: str
    name: str
    memory_bytes: int | None
    unified: bool = False
    mig: tuple[MigInstance, ...] | None = None
    capability: str | None = None


@dataclass(frozen=True, slots=True)
class Nvml:
    """NVML's answers about the machine. ``cuda`` is the newest CUDA version that the driver knows.

    ``absent`` is the reason why there is no NVML at all (no driver: normal on most machines). ``errors`` are
    those of a driver that is there.
    """

    driver: str | None = None
    gpus: tuple[NvidiaGpu, ...] = ()
    absent: str | None = None
    errors: tuple[str, ...] = ()
    cuda: str | None = None


def accelerators(
    nvml: Nvml, ram_bytes: int, visible: str | None
) -> tuple[tuple[Accelerator, ...], tuple[str, ...]]:
    """Return the GPUs a CUDA program would see, numbered as CUDA numbers them, and warnings.

    ``visible`` is the value of CUDA_VISIBLE_DEVICES, None where it is not set. Where GPUs differ CUDA may
    order them otherwise (fastest first); devices.py matches by name, so only ids without a binary can be off.
    """
    cuda_gpus = visible_gpus(nvml.gpus, visible)
    warnings = [_with_way_out(error) for error in nvml.errors]
    if hidden := len(nvml.gpus) - len(cuda_gpus):
        warnings.append(f"CUDA_VISIBLE_DEVICES={visible} hides {hidden} of {len(nvml.gpus)} NVIDIA GPUs")
    if any(gpu.mig is not None for gpu in cuda_gpus):
        warnings.append("MIG is on: a CUDA program sees one slice only, and qwenctl leaves the mode as it is")
    gpus = tuple(
        Accelerator(
            id=f"CUDA{number}",
            name=gpu.name,
            backend="cuda",
            memory="unified" if gpu.unified else "dedicated",
            memory_bytes=ram_bytes if gpu.unified else gpu.memory_bytes,
            usable_bytes=None if gpu.unified else gpu.memory_bytes,
            driver=nvml.driver,
            architecture=gpu.capability,
            driver_cuda=nvml.cuda,
        )
        for number, gpu in enumerate(_one_slice(cuda_gpus))
    )
    return gpus, tuple(warnings)


def unanswered(nvml: Nvml, *, container: bool, nouveau: bool) -> str | None:
    """Return what to say where the PCI bus shows an NVIDIA GPU and NVML shows none; None if it said why."""
    if nvml.gpus or nvml.errors:
        return None
    why = f"no driver answers: {nvml.absent}" if nvml.absent else "its driver shows none here"
    if container:
        return f"{NOT_ANSWERED}{why}; {FROM_A_CONTAINER}"
    if nouveau:
        return f"{NOT_ANSWERED}nouveau drives it: install NVIDIA's driver, or an engine for Vulkan"
    return f"{NOT_ANSWERED}{why}; install or load NVIDIA's driver; in a container, {FROM_A_CONTAINER}"


def _with_way_out(error: str) -> str:
    """Return an error of NVML's with what helps, unless it says so itself."""
    way = next((way for text, way in WAYS_OUT if text.search(error)), None)
    return error if way is None or ";" in error else f"{error}; {way}"


def visible_gpus(gpus: tuple[NvidiaGpu, ...], visible: str | None) -> tuple[NvidiaGpu, ...]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES leaves, in its order.

    Entries are indices, UUIDs or unambiguous beginnings of UUIDs; the first invalid entry ends the list.

    Source: NVIDIA CUDA C++ Programming Guide, "CUDA Environment Variables", CUDA_VISIBLE_DEVICES.
    """
    if visible is None:
        return gpus
    chosen_gpus: list[NvidiaGpu] = []
    for entry in visible.split(","):
        gpu = _named(gpus, entry.strip())
        if gpu is None or any(gpu.uuid == other.uuid and gpu.mig is None for other in chosen_gpus):
            break
        chosen_gpus.append(gpu)
    return tuple(chosen_gpus)


def _named(gpus: tuple[NvidiaGpu, ...], entry: str) -> NvidiaGpu | None:
    if entry.isascii() and entry.isdigit():
        return gpus[int(entry)] if int(entry) < len(gpus) else None
    if entry.startswith("MIG-"):
        for gpu in gpus:
            slices = tuple(part for part in gpu.mig or () if part.uuid.startswith(entry))
            if slices:
                return replace(gpu, mig=slices[:1])
        return None
    matches = [gpu for gpu in gpus if entry.startswith("GPU-") and gpu.uuid.startswith(entry)]
    return matches[0] if len(matches) == 1 else None


def _one_slice(gpus: tuple[NvidiaGpu, ...]) -> tuple[NvidiaGpu, ...]:
    """Return whole GPUs as they are; where the first is in MIG mode, only its first slice.

    Source: NVIDIA MIG User Guide, "Device Enumeration": CUDA enumerates a single MIG instance.
    """
    if not gpus or gpus[0].mig is None:
        return tuple(gpu for gpu in gpus if gpu.mig is None)
    return tuple(
        NvidiaGpu(part.uuid, part.name, part.memory_bytes, capability=gpus[0].capability)
        for part in gpus[0].mig[:1]
    )
