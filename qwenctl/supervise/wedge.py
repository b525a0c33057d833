"""Tell a wedged server from a busy one, from samples of what it does. Pure: no I/O, no clock.

A busy server is never suspected: with work in flight, no progress for long is needed, and a probe that
fails too. ``/health`` proves nothing either way.
"""

from dataclasses import dataclass, replace
from typing import Literal

from qwenctl.engine.slot import Slot

WedgeVerdict = Literal["calm", "suspect"]

BATCH_TOKENS = 2048
"""Prompt tokens between two moves of a slot's counter. Source: llama-server b11434, default of -b."""


SAMPLES_PER_LIMIT = 4
"""How many samples are taken within a short ``wedge_after_s``."""


@dataclass(frozen=True, slots=True)
class WedgeLimits:
    """How long a server may go without progress, in seconds. ``alive_share``: CPU time per elapsed time."""

    wedge_after_s: float = 120.0
    sample_s: float = 10.0
    probe_timeout_s: float = 10.0
    first_batch_s: float = 1800.0
    batches: float = 5.0
    alive_share: float = 0.05


def wedge_limits(after_s: float) -> WedgeLimits:
    """Return the limits for a server that may go ``after_s`` without progress.

    A short time is sampled ``SAMPLES_PER_LIMIT`` times; a long one as seldom as ``WedgeLimits`` says.
    """
    usual = WedgeLimits()
    sample_s = min(usual.sample_s, after_s / SAMPLES_PER_LIMIT)
    return WedgeLimits(after_s, sample_s, min(usual.probe_timeout_s, max(after_s, 1.0)))


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the gate saw. ``reader_waits``: a client does not read its stream, so nothing can move."""

    in_flight: int
    bytes_through: int
    reader_waits: bool = False


@dataclass(frozen=True, slots=True)
class ServerSample:
    """What was seen at one time. None is unknown: no gate, no answer, no permission.

    ``runnable``: a thread has or waits for a CPU, or waits for the disk. On a crowded machine nothing else
    shows that a server is busy.
    """

    at: float
    traffic: Traffic | None = None
    slots: tuple[Slot, ...] | None = None
    cpu_s: float | None = None
    runnable: bool | None = None
    gpu_busy: bool | None = None


@dataclass(frozen=True, slots=True)
class WedgeWatch:
    """What is remembered of one child: when it last made progress, and its slowest batch so far."""

    progress_at: float
    last: ServerSample
    longest_batch_s: float | None = None


def judge(watch: WedgeWatch, sample: ServerSample, limits: WedgeLimits) -> tuple[WedgeWatch, WedgeVerdict]:
    """Return what to remember, and whether the child is to be probed. The first of these that applies:

    1. no sample was taken for a long time (suspend, a stopped daemon): start counting again;
    2. nothing is in flight, or a client does not read: nothing is expected;
    3. a counter moved: progress; the time it took may be the slowest batch so far;
    4. no progress for longer than allowed: suspect.
    """  # noqa: D415 - an ordered list follows
    before, now = watch.last, sample.at
    known = before.slots if sample.slots is None else sample.slots  # the last answer, if there is none now
    seen = replace(watch, last=replace(sample, slots=known))
    if now - before.at > 3 * (limits.sample_s + limits.probe_timeout_s):  # 1
        return replace(seen, progress_at=now), "calm"
    if _in_flight(sample) == 0 or (sample.traffic is not None and sample.traffic.reader_waits):  # 2
        return replace(seen, progress_at=now), "calm"
    if _moved(before, sample):  # 3
        took = now - watch.progress_at
        slowest = max(took, watch.longest_batch_s or 0.0)
        whole = _prompt_tokens(sample) - _prompt_tokens(before) >= BATCH_TOKENS
        counts = whole or took >= limits.wedge_after_s
        return replace(
            seen, progress_at=now, longest_batch_s=slowest if counts else watch.longest_batch_s
        ), "calm"
    believed = _stretched(watch, limits) if _alive(before, sample, limits) else limits.wedge_after_s
    return seen, "suspect" if now - watch.progress_at >= believed else "calm"  # 4


def _in_flight(sample: ServerSample) -> int | None:
    """Return the requests in flight; None, which is suspicious, if nobody could say."""
    if sample.traffic is not None:
        return sample.traffic.in_flight
    return None if sample.slots is None else sum(slot.busy for slot in sample.slots)


def _moved(before: ServerSample, now: ServerSample) -> bool:
    bytes_moved = (
        before.traffic is not None
        and now.traffic is not None
        and now.traffic.bytes_through != before.traffic.bytes_through
    )
    return bytes_moved or (None not in (before.slots, now.slots) and before.slots != now.slots)


def _prompt_tokens(sample: ServerSample) -> int:
    return sum(slot.prompt_tokens for slot in sample.slots or ())


def _alive(before: ServerSample, now: ServerSample, limits: WedgeLimits) -> bool:
    """Return whether the server computes. That is life, not progress. Unknown counts as life."""
    if now.gpu_busy or now.runnable:
        return True
    if before.cpu_s is None or now.cpu_s is None:
        return True
    return now.cpu_s - before.cpu_s >= limits.alive_share * (now.at - before.at)


def _stretched(watch: WedgeWatch, limits: WedgeLimits) -> float:
    """Return how long a batch may take: several times the slowest one, or long while none was seen."""
    batch = watch.longest_batch_s
    longest = limits.first_batch_s if batch is None else limits.batches * batch
    return max(limits.wedge_after_s, longest)
