"""Compare a plan with the memory that is free right now, and name who holds the rest. Reads only."""

from collections.abc import Callable

from qwenctl.hardware.apple import CRITICAL, MemoryPressure
from qwenctl.hardware.facts import Hardware
from qwenctl.hardware.holders import RAM, Free, Holder, free_bytes, holders
from qwenctl.hardware.macos import read_memory_pressure
from qwenctl.plan.planner import Plan
from qwenctl.supervise.exits import MEMORY_BUSY, Ending

GIB = 1024**3
NAMED = 3


def shortage(
    plan: Plan,
    hardware: Hardware,
    pressure: Callable[[], MemoryPressure | None] = read_memory_pressure,
) -> Ending | None:
    """Return why ``plan`` would not start now, or None if its memory is free."""
    if hardware.os == "darwin":
        return under_pressure(pressure())
    short = missing(plan, hardware, free_bytes())
    if short is None:
        return None
    place, need, free = short
    named = _holders_of(place)
    sizes = f"{free / GIB:.1f} GiB free and {need / GIB:.1f} GiB are needed"
    summary = f"{place} has {sizes}; held by {named or 'others'}"
    return Ending(MEMORY_BUSY, summary, hint="end one of them, or choose a smaller quant or context")


def under_pressure(pressure: MemoryPressure | None) -> Ending | None:
    """Return why a server would not start on a Mac now, None if it would; unknown is not short.

    There is no number of bytes to compare: macOS makes room for a program that starts, by compressing and by
    dropping files from its cache. Once it says "critical", it ends programs instead. A smaller plan would
    meet the same, so none is made.
    """
    if pressure is None or pressure.level < CRITICAL:
        return None
    named = _holders_of(RAM)
    summary = f"macOS says that memory is short (pressure {pressure.words}); held by {named or 'others'}"
    hint = "end programs that hold much (Activity Monitor, Memory); it starts when macOS has memory again"
    return Ending(MEMORY_BUSY, summary, hint=hint, smaller_helps=False)


def missing(plan: Plan, hardware: Hardware, free: tuple[Free, ...]) -> tuple[str, int, int] | None:
    """Return the place that is short, what is needed there and what is free; None if nothing is short.

    Caches and checkpoints grow with use, so they are not needed yet. NVIDIA GPUs are compared as a
    whole: the order of their numbers differs between programs. What is unknown is not short.
    """
    memory = plan.memory
    shared = bool(hardware.accelerators) and hardware.accelerators[0].memory != "dedicated"
    host = memory.host_bytes - memory.cache_bytes - memory.checkpoints_bytes
    host += memory.device_bytes if shared else 0
    ram = next((place.bytes for place in free if place.place == RAM), None)
    if ram is not None and host > ram:
        return RAM, host, ram
    cards = [place.bytes for place in free if place.place != RAM]
    on_cuda = [device.need_bytes for device in memory.devices if device.id.startswith("CUDA")]
    known = [size for size in cards if size is not None]
    if on_cuda and not shared and len(known) == len(cards) > 0 and sum(on_cuda) > sum(known):
        return "the GPU" if len(cards) == 1 else "the GPUs", sum(on_cuda), sum(known)
    return None


def _holders_of(place: str) -> str:
    return ", ".join(_named(holder) for holder in _there(place, holders(NAMED)))


def _there(place: str, found: tuple[Holder, ...]) -> list[Holder]:
    return [holder for holder in found if (holder.place == RAM) == (place == RAM)][:NAMED]


def _named(holder: Holder) -> str:
    size = "an unknown amount" if holder.bytes is None else f"{holder.bytes / GIB:.1f} GiB"
    return f"pid {holder.pid} ({holder.name}) {size}"
