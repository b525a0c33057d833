"""List the candidates for a plan in the order they are tried, smallest loss first. Pure: no I/O.

Losses, from small to large: host cache (4096, 2048, 0 MiB), f16 keys and values (q8_0 instead), context (in
steps down to ``min_tokens``; there, checkpoints too), q4_0 keys and values where the profile allows them, the
quant.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from qwenctl.model.profile import Profile, Quant
from qwenctl.plan.budget import Machine
from qwenctl.settings.types import Settings

CACHE_STEPS_MIB = (2048, 0)
LAST_KV_TYPE = "q4_0"
"""Costs quality that shows, so it comes after every shorter context. It saves little there, but it is the
last step before a poorer quant."""
LARGEST_BITS = 8.6
"""Where no row recommends a quant, those with more bits a weight are left out: they double the size, and
8 bits already lose less than can be noticed."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One combination of quant, context and caches that a plan could choose."""

    quant: Quant
    context_tokens: int
    kv_type: str
    cache_ram_mib: int
    checkpoints: int


def recommended(machine: Machine, profile: Profile) -> Quant | None:
    """Return the quant of the highest row this machine reaches. Thresholds are 10^9 bytes.

    A profile without rows recommends its best quant of at most ``LARGEST_BITS``, if it has one.
    """
    if not profile.rows:
        choosable = [quant for quant in profile.quants if not quant.named_only] or list(profile.quants)
        return next((quant for quant in choosable if quant.bits_per_weight <= LARGEST_BITS), choosable[0])
    rows = [
        row
        for row in profile.rows
        if machine.kind in row.memory and machine.capacity_bytes >= row.at_least_gb * 1e9
    ]
    best = max(rows, key=lambda row: row.at_least_gb, default=None)
    return profile.quant(best.quant) if best else None


def quants(machine: Machine, profile: Profile, settings: Settings) -> tuple[Quant, ...]:
    """Return the quants to try, in order.

    1. The settings name a quant: that one alone.
    2. ``balanced`` and ``context``: the recommended one, then each poorer one.
    3. ``quality``: from the best to the poorest, whatever the hardware row recommends.
    4. ``speed``: from the smallest up to the recommended one: fewer bytes per token.
    """
    if settings.model.quant != "auto":
        named = profile.quant(settings.model.quant)
        return (named,) if named else ()
    choosable = tuple(quant for quant in profile.quants if not quant.named_only)
    best = recommended(machine, profile)
    if best is None:
        return ()
    poorer = choosable[choosable.index(best) :] if best in choosable else (best,)
    match settings.model.prefer:
        case "balanced" | "context":
            return poorer
        case "quality":
            return choosable
        case "speed":
            return tuple(sorted(poorer, key=lambda quant: quant.bytes))


def context_steps(tokens: int, least: int) -> tuple[int, ...]:
    """Return contexts from ``tokens`` down to ``least``: each halving in two steps, multiples of 256."""
    steps, size = [tokens], 1
    while size < tokens:
        size *= 2
    while size > least:
        steps += [size * 3 // 4, size // 2]
        size //= 2
    return tuple(
        sorted({step for step in (*steps, least) if least <= step <= tokens} | {tokens}, reverse=True)
    )


def candidates(machine: Machine, profile: Profile, settings: Settings) -> Iterator[Candidate]:
    """Yield every candidate in the order of preference."""
    wanted = settings.context
    tokens = min(wanted.tokens, profile.architecture.context_length)
    steps = context_steps(tokens, min(wanted.min_tokens, tokens))
    ladder = quants(machine, profile, settings)
    if settings.model.prefer == "context":
        for step in steps:
            for quant in ladder:
                yield from _variants(quant, step, profile, settings, bottom=step == steps[-1])
    else:
        for quant in ladder:
            for step in steps:
                yield from _variants(quant, step, profile, settings, bottom=step == steps[-1])


def kv_types(profile: Profile, settings: Settings) -> tuple[str, ...]:
    """Return the types of keys and values to try with every context, from the best to the poorest."""
    if settings.context.kv_type != "auto":
        return (settings.context.kv_type,)
    return tuple(one for one in profile.kv_types if one != LAST_KV_TYPE) or profile.kv_types


def poorest_kv_type(profile: Profile, settings: Settings) -> str:
    """Return the type of the last concession."""
    return profile.kv_types[-1] if settings.context.kv_type == "auto" else settings.context.kv_type


def _variants(
    quant: Quant, tokens: int, profile: Profile, settings: Settings, *, bottom: bool
) -> Iterator[Candidate]:
    """Yield the small losses of one quant and context.

    Some go last, only at ``min_tokens``: the checkpoints, then q4_0 keys and values.
    """
    wanted = settings.context
    caches = (wanted.cache_ram_mib, *(step for step in CACHE_STEPS_MIB if step < wanted.cache_ram_mib))
    types = kv_types(profile, settings)
    for kv_type in types:
        for cache in caches:
            yield Candidate(quant, tokens, kv_type, cache, wanted.checkpoints)
    if bottom:
        checkpoints = wanted.checkpoints
        while checkpoints > 0:
            checkpoints //= 2
            yield Candidate(quant, tokens, types[-1], caches[-1], checkpoints)
        last = poorest_kv_type(profile, settings)
        if last not in types:
            yield Candidate(quant, tokens, last, caches[-1], checkpoints)
