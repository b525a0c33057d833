"""Compare a load with its plan, and keep its figures for the next plan. Pure: no I/O."""

import re
from collections.abc import Mapping, Set

from qwenctl.launch.load_log import HOST_NAME, Buffers, MeasuredLoad
from qwenctl.plan.known import KnownLoad
from qwenctl.plan.memory import MIB, Load, Part
from qwenctl.plan.outcome import Plan

OFF_PERCENT = 10.0
"""A load that differs from its prediction by more than this is said to its owner. A decision, not a fact."""
GIB = 1024 * MIB


def differences(
    plan: Plan, architecture: str, buffers: Buffers, measured: MeasuredLoad | None
) -> tuple[str, ...]:
    """Return in one sentence each how a load differs from its plan: its model, its context, its memory."""
    found = []
    if buffers.architecture is not None and buffers.architecture != architecture:
        found.append(
            f"the model that was loaded is {buffers.architecture!r}, the plan is for {architecture!r}"
        )
    padded = Load(plan.context_tokens, plan.kv_type).padded_tokens
    tokens = buffers.slot_tokens
    if tokens is not None and not plan.context_tokens <= tokens <= padded:
        found.append(f"each slot has {tokens:,} tokens of context, the plan says {plan.context_tokens:,}")
    if measured is not None and abs(measured.error_percent) > OFF_PERCENT:
        took, planned = measured.actual_bytes / GIB, measured.predicted_bytes / GIB
        found.append(
            f"the load took {took:.2f} GiB, {planned:.2f} GiB were planned; qwenctl plan uses that now"
        )
    return tuple(found)


def lost_devices(plan: Plan, buffers: Buffers) -> tuple[str, ...]:
    """Return the devices of the plan that the load did not use, because they are not there any more.

    Buffers decide: llama-server says ``offloaded 65/65 layers to GPU`` on the CPU, too. Where one device of
    several has no buffer, it is lost only if the server does not say that it uses it: a small model may leave
    a device of little memory empty. A log without any buffer proves nothing.
    """
    holders = {name for name, _ in buffers.by_device}
    if not plan.devices or not (holders or buffers.host_mib):
        return ()
    without = tuple(device for device in plan.devices if not _holds(holders, device))
    if len(without) == len(plan.devices):
        return without
    return tuple(device for device in without if device not in buffers.used) if buffers.used else ()


def _holds(holders: Set[str], device: str) -> bool:
    """Say whether a device has a buffer. Old builds name Metal without a number, and split rows, too."""
    family = re.sub(r"\d+$", "", device)
    names = {device, *({"Metal"} if family == "MTL" else ())}
    return any(name in names or name.startswith((f"{device}_", f"{family}_")) for name in holders)


def known_load(plan: Plan, buffers: Buffers) -> KnownLoad | None:
    """Return the load as the next plan may use it, None where the log does not say it whole.

    A load that spilled to the CPU, drafts or sees says nothing about a plain one.
    """
    sizes = {(place, kind): int(mib * MIB) for place, kind, mib in buffers.sizes}
    if buffers.partly_on_cpu or plan.memory.extras_bytes or not _is_whole(plan, sizes):
        return None
    return KnownLoad(
        quant=plan.quant,
        context_tokens=plan.context_tokens,
        kv_type=plan.kv_type,
        parallel=plan.parallel,
        parts=tuple(_part(sizes, device) for device in plan.devices),
        host=_part(sizes, HOST_NAME),
        source="measured",
    )


def _is_whole(plan: Plan, sizes: Mapping[tuple[str, str], int]) -> bool:
    """Say whether weights and compute buffers of every planned device are there, and of no other device."""
    places = {place for place, _ in sizes} - {HOST_NAME}
    wanted = set(plan.devices)
    holders = wanted or {HOST_NAME}
    return places == wanted and all((one, kind) in sizes for one in holders for kind in ("model", "compute"))


def _part(sizes: Mapping[tuple[str, str], int], place: str) -> Part:
    def size(kind: str) -> int:
        return sizes.get((place, kind), 0)

    return Part(size("model"), size("KV"), size("RS"), size("compute") + size("output"))
