"""Compare a load with its plan, and keep its figures for the next plan. Pure: no I/O."""

from collections.abc import Mapping

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
