"""Turn NVML's answers into accelerators. Pure: no I/O; nvml.py asks the driver."""

from dataclasses import dataclass, replace

from qwenctl.hardware.facts import Accelerator


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
    warnings = list(nvml.errors)
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
