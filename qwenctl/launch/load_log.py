"""Read what llama.cpp says about memory: its log lines. Pure: no I/O.

Sizes are MiB, as llama.cpp prints them. Source: llama.cpp b11434, common/fit.cpp, src/llama-model.cpp,
src/llama-context.cpp, and the captured samples in tests/launch/captured.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from qwenctl.engine.fit_table import error_percent
from qwenctl.plan.memory import MIB, Memory

HOST_NAME = "host"
"""What a buffer of the host is called in ``Buffers.sizes``."""
HOST = ("CPU", "CPU_Mapped", "CPU_REPACK", "Host")
"""Buffer names that are the host's memory, beside pinned ones such as CUDA_Host."""


@dataclass(frozen=True, slots=True)
class Buffers:
    """What a server printed while it loaded. ``None``: it did not print that."""

    device_mib: float
    host_mib: float
    by_device: tuple[tuple[str, float], ...]
    projected_mib: int | None
    offloaded: tuple[int, int] | None
    reduced_context: tuple[int, int] | None
    sizes: tuple[tuple[str, str, float], ...] = ()  # device or HOST, kind of buffer, MiB
    architecture: str | None = None
    slot_tokens: int | None = None  # the context of each slot
    used: tuple[str, ...] = ()  # the devices that the server says it uses

    @property
    def partly_on_cpu(self) -> bool:
        """Layers were left on the CPU: the server runs, slowly. This counts as out of device memory."""
        return self.offloaded is not None and self.offloaded[0] < self.offloaded[1]


_BUFFER = re.compile(r"(\S+)\s+(model|KV|RS|compute|output) buffer size =\s+([\d.]+) MiB")
_CONTEXT = re.compile(r"constructing llama_context|loading model tensors")
_DRY_PASS_ENDS = re.compile(r"fitting params to free memory took|fit params to|projected to use")
_PROJECTED = re.compile(r"projected to use (\d+) MiB of")
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
_ARCHITECTURE = re.compile(r"print_info: arch\s+= (\S+)")
_USED = re.compile(r": using device (\S+) \(")
_SLOT_TOKENS = re.compile(r"n_ctx_slot = (\d+)")
_REDUCED = re.compile(r"context size reduced from (\d+) to (\d+)")


def parse_log(text: str) -> Buffers:
    """Return what a log at ``-lv 4`` says about memory.

    llama-server first tries the load without allocating (the dry pass), then says what it projects, then
    loads: only what follows counts. A load has several buffers of a kind on one device, and they add up: one
    for each file of a split model, one for each kind of cache, one for each context (drafts have their own).
    A context that reserves its graph anew prints its compute buffer again: the last one counts. Repacked
    weights are copies of pages of the mapped file. Those pages are not needed again: they count once.
    """
    sizes: dict[tuple[str, str], float] = {}
    for part in _CONTEXT.split(_loaded(text)):
        mine: dict[tuple[str, str], float] = {}
        for name, kind, mib in _BUFFER.findall(part):
            before = 0.0 if kind in ("compute", "output") else mine.get((name, kind), 0.0)
            mine[name, kind] = before + float(mib)
        for key, mib in mine.items():
            sizes[key] = sizes.get(key, 0.0) + mib
    mapped = sizes.get(("CPU_Mapped", "model"), 0.0)
    copied = min(mapped, sizes.get(("CPU_REPACK", "model"), 0.0))
    by_device: dict[str, float] = {}
    for (name, _), mib in sizes.items():
        if not _is_host(name):
            device = _device(name)
            by_device[device] = by_device.get(device, 0.0) + mib
    projected = _PROJECTED.findall(text)
    offloaded = _OFFLOADED.findall(text)
    reduced = _REDUCED.findall(text)
    architectures, slots = _ARCHITECTURE.findall(text), _SLOT_TOKENS.findall(text)
    return Buffers(
        device_mib=sum(by_device.values()),
        host_mib=sum(mib for (name, _), mib in sizes.items() if _is_host(name)) - copied,
        by_device=tuple(by_device.items()),
        projected_mib=int(projected[-1]) if projected else None,
        offloaded=(int(offloaded[-1][0]), int(offloaded[-1][1])) if offloaded else None,
        reduced_context=(int(reduced[-1][0]), int(reduced[-1][1])) if reduced else None,
        sizes=_by_place(sizes, copied),
        architecture=architectures[0] if architectures else None,
        slot_tokens=int(slots[0]) if slots else None,
        used=tuple(dict.fromkeys(_USED.findall(text))),
    )


def _loaded(text: str) -> str:
    """Return what follows the dry pass."""
    end = max((found.end() for found in _DRY_PASS_ENDS.finditer(text)), default=0)
    return text[end:] if _BUFFER.search(text, end) else text


@dataclass(frozen=True, slots=True)
class MeasuredLoad:
    """A prediction beside what was really allocated, on the devices, or on the host where there is none."""

    predicted_bytes: int
    actual_bytes: int
    error_percent: float
    partly_on_cpu: bool


def compare(memory: Memory, buffers: Buffers) -> MeasuredLoad:
    """Return how far a plan's prediction is from the buffers of the load that followed."""
    caches = memory.cache_bytes + memory.checkpoints_bytes
    predicted = memory.device_bytes if memory.devices else memory.host_bytes - caches
    actual = int((buffers.device_mib if memory.devices else buffers.host_mib) * MIB)
    return MeasuredLoad(predicted, actual, error_percent(predicted, actual), buffers.partly_on_cpu)


def _by_place(sizes: Mapping[tuple[str, str], float], copied: float) -> tuple[tuple[str, str, float], ...]:
    """Return the sizes by device and kind; repacked weights are counted once."""
    places: dict[tuple[str, str], float] = {}
    for (name, kind), mib in sizes.items():
        place = HOST_NAME if _is_host(name) else _device(name)
        places[place, kind] = places.get((place, kind), 0.0) + mib
    if copied:
        places[HOST_NAME, "model"] -= copied
    return tuple((place, kind, mib) for (place, kind), mib in places.items())


def _is_host(name: str) -> bool:
    return name in HOST or name.endswith("_Host")


def _device(name: str) -> str:
    """Return the device of a buffer: ``RPC0[127.0.0.1:50052]`` is RPC0's, ``MTL0_Mapped`` is MTL0's."""
    return name.split("[", maxsplit=1)[0].removesuffix("_Mapped").removesuffix("_Private")
