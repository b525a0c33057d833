"""Tell a wedged server from a busy one, from samples of what it does. Pure: no I/O, no clock.

A busy server is never suspected: with work in flight, no progress for long is needed, and a probe that
fails too. ``/health`` proves nothing either way.
"""

from dataclasses import dataclass, replace
from typing import Literal

from qwenctl.engine.slot import Slot

WedgeVerdict = Literal["calm", "suspect"]
Life = Literal["computes", "unknown", "quiet"]
"""What is seen of a server without progress: it computes, nobody can say, or it does nothing at all."""

BATCH_TOKENS = 2048
"""Prompt tokens between two moves of a slot's counter. Source: llama-server b11434, default of -b."""


SAMPLES_PER_LIMIT = 4
"""How many samples are taken within a short ``wedge_after_s``."""


@dataclass(frozen=True, slots=True)
class WedgeLimits:
    """How long a server may go without progress, in seconds. ``alive_share``: CPU time per elapsed time.

    A quiet server with more requests than slots may be silent ``crowded`` times as long, since no request
    can be expected to end soon. One that computes, or of which nobody can say, gets ``stretch`` times as
    long as ``wedge_after_s``, and ``batches`` times as long as the longest work seen. Before its first whole
    batch, and while ``/slots`` says nothing, one that computes gets at least ``first_batch_s``.
    """

    wedge_after_s: float = 120.0
    sample_s: float = 10.0
    probe_timeout_s: float = 10.0
    first_batch_s: float = 1800.0
    batches: float = 5.0
    stretch: float = 5.0
    crowded: float = 2.0
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
    """What the gate saw. The counts only grow, but ``in_flight`` and ``blocked``.

    ``bytes_through``: bytes of answers that the server had to compute; ``answered``: such answers that were
    whole. ``left``: requests whose client left before any of the answer came. ``blocked``: requests in
    flight whose client does not read, so that nothing can move.
    """

    in_flight: int
    bytes_through: int
    blocked: int = 0
    answered: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class ServerSample:
    """What was seen at one time. None is unknown: no gate, no answer, no permission.

    ``runnable``: a thread has or waits for a CPU, or waits for the disk. On a crowded machine nothing else
    shows that a server is busy. ``stopped``: the process was stopped by a signal. ``gpu_busy`` is False where
    the server uses no GPU; ``gpu_work`` counts the work that GPUs have done for this process.
    """

    at: float
    traffic: Traffic | None = None
    slots: tuple[Slot, ...] | None = None
    cpu_s: float | None = None
    runnable: bool | None = None
    gpu_busy: bool | None = False
    gpu_work: int | None = None
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class WedgeWatch:
    """What is remembered of one child.

    ``work_s``: for how long it has had work since it made progress last; ``quiet_s``: how much of that it was
    not seen to compute. ``longest_batch_s`` is its slowest whole batch; ``longest_work_s`` and
    ``longest_quiet_s`` are the longest such times that ended in progress. ``patience`` multiplies its limits
    until it has made progress: an earlier child was ended with the same work, and that did not help.
    """

    last: ServerSample
    longest_batch_s: float | None = None
    longest_work_s: float = 0.0
    longest_quiet_s: float = 0.0
    work_s: float = 0.0
    quiet_s: float = 0.0
    patience: float = 1.0

    def cleared(self) -> "WedgeWatch":
        """Return what is remembered once it has generated a token that it was asked for."""
        return replace(self, work_s=0.0, quiet_s=0.0, patience=1.0)


def judge(watch: WedgeWatch, sample: ServerSample, limits: WedgeLimits) -> tuple[WedgeWatch, WedgeVerdict]:
    """Return what to remember, and whether the child is to be probed. The first of these that applies:

    1. no sample was taken for a long time (suspend, a stopped daemon): start counting again;
    2. an answer, a byte or a counter moved: progress; the time it took may be the longest so far;
    3. nothing is in flight and nobody has left without an answer, or no client reads: nothing is expected;
    4. it had work for longer than allowed, all together: suspect. A request that leaves unanswered was work.
    """  # noqa: D415 - an ordered list follows
    before, elapsed_s = watch.last, sample.at - watch.last.at
    known = before.slots if sample.slots is None else sample.slots  # the last answer, if there is none now
    cpu_s = before.cpu_s if sample.cpu_s is None else sample.cpu_s
    seen = replace(watch, last=replace(sample, slots=known, cpu_s=cpu_s))
    if elapsed_s > 3 * (limits.sample_s + limits.probe_timeout_s):  # 1
        return replace(seen, work_s=0.0, quiet_s=0.0), "calm"
    busy = _is_busy(before, sample)
    if busy:
        quiet_s = elapsed_s if _life(before, sample, limits) != "computes" else 0.0
        seen = replace(seen, work_s=watch.work_s + elapsed_s, quiet_s=watch.quiet_s + quiet_s)
    if _moved(before, sample):  # 2
        return _learned(seen, before, sample).cleared(), "calm"
    return seen, "suspect" if busy and _too_long(seen, sample, limits) else "calm"


def _learned(watch: WedgeWatch, before: ServerSample, now: ServerSample) -> WedgeWatch:
    """Return the watch with the times that its work took until now, where they are the longest so far."""
    whole = _prompt_tokens(now) - _prompt_tokens(before) >= BATCH_TOKENS
    return replace(
        watch,
        longest_batch_s=max(watch.work_s, watch.longest_batch_s or 0.0) if whole else watch.longest_batch_s,
        longest_work_s=max(watch.work_s, watch.longest_work_s),
        longest_quiet_s=max(watch.quiet_s, watch.longest_quiet_s),
    )


def _is_busy(before: ServerSample, now: ServerSample) -> bool:
    """Return whether the server had work between the two: some that it could go on with, or that left."""
    if now.traffic is None:  # no gate: only the slots know; if they say nothing, that is suspicious
        return now.slots is None or any(slot.busy for slot in now.slots)
    left = before.traffic is not None and now.traffic.left > before.traffic.left
    return left or now.traffic.in_flight > now.traffic.blocked


def _moved(before: ServerSample, now: ServerSample) -> bool:
    if None not in (before.slots, now.slots) and before.slots != now.slots:
        return True
    if before.traffic is None or now.traffic is None:
        return False
    return (before.traffic.bytes_through, before.traffic.answered) != (
        now.traffic.bytes_through,
        now.traffic.answered,
    )


def _prompt_tokens(sample: ServerSample) -> int:
    return sum(slot.prompt_tokens for slot in sample.slots or ())


def _life(before: ServerSample, now: ServerSample, limits: WedgeLimits) -> Life:
    """Return whether the server computes. That is life, not progress. Unknown CPU time counts as life."""
    if now.gpu_busy or now.runnable or before.cpu_s is None or now.cpu_s is None:
        return "computes"
    if now.cpu_s - before.cpu_s >= limits.alive_share * (now.at - before.at):
        return "computes"
    if now.gpu_work is not None and before.gpu_work is not None:
        return "computes" if now.gpu_work > before.gpu_work else "quiet"
    return "quiet" if now.gpu_busy is not None else "unknown"


def _too_long(watch: WedgeWatch, now: ServerSample, limits: WedgeLimits) -> bool:
    """Return whether the server has had work without progress for longer than is allowed."""
    known = watch.last.slots or ()
    waiting = now.traffic.in_flight - now.traffic.blocked if now.traffic is not None else 0
    crowded = waiting > max(len(known), 1) and not now.stopped
    quiet_s = limits.wedge_after_s * (limits.crowded if crowded else 1.0)
    if now.gpu_busy is None and now.gpu_work is None:
        quiet_s = max(quiet_s, limits.stretch * limits.wedge_after_s)
    quiet_s = max(quiet_s, 2 * watch.longest_quiet_s)
    work_s = max(limits.stretch * limits.wedge_after_s, limits.batches * watch.longest_work_s)
    if now.slots is None or watch.longest_batch_s is None:
        work_s = max(work_s, limits.first_batch_s)
    return watch.quiet_s >= watch.patience * quiet_s or watch.work_s >= watch.patience * work_s
