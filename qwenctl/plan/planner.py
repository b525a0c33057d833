"""Choose the quant, the context and the KV type for a machine. Pure: no I/O, and total."""

from dataclasses import dataclass
from typing import Literal

from qwenctl.hardware.facts import Hardware, ServerFacts
from qwenctl.plan.memory import Memory, device_weights_bytes, kv_bytes, recurrent_bytes
from qwenctl.plan.profile import File, Profile, Quant
from qwenctl.settings.types import Settings

Verdict = Literal["fits", "tight", "no"]


@dataclass(frozen=True, slots=True)
class Considered:
    """One candidate with its verdict and the reason for it. Bytes of the tightest budget."""

    quant: str
    context_tokens: int
    kv_type: str
    verdict: Verdict
    need_bytes: int
    have_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The exact choice. ``repo`` and ``revision`` are None where the file does not come from a hub."""

    profile: str
    quant: str
    repo: str | None
    revision: str | None
    files: tuple[File, ...]
    context_tokens: int
    kv_type: str
    parallel: int
    cache_ram_mib: int
    checkpoints: int
    verdict: Verdict
    memory: Memory
    considered: tuple[Considered, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoFit:
    """Nothing fits, and why. ``sibling`` names a profile that would."""

    profile: str
    reason: str
    hint: str | None
    considered: tuple[Considered, ...]


def plan(
    hardware: Hardware, profile: Profile, settings: Settings, server: ServerFacts | None
) -> Plan | NoFit:
    """Return the best choice for this machine, or why there is none. ``server`` is None when unknown."""
    del server
    quant = _wanted(hardware, profile, settings)
    if quant is None:
        return NoFit(profile.name, "no row of the profile matches this machine", None, ())
    tokens = min(settings.context.tokens, profile.architecture.context_length)
    kv_type = "f16" if settings.context.kv_type == "auto" else settings.context.kv_type
    memory = _memory(hardware, profile, quant, tokens, kv_type, settings)
    return Plan(
        profile=profile.name,
        quant=quant.name,
        repo=profile.hub.repo if profile.hub else None,
        revision=profile.hub.revision if profile.hub else None,
        files=quant.files,
        context_tokens=tokens,
        kv_type=kv_type,
        parallel=settings.context.parallel,
        cache_ram_mib=settings.context.cache_ram_mib,
        checkpoints=settings.context.checkpoints,
        verdict="fits",
        memory=memory,
        considered=(
            Considered(
                quant.name, tokens, kv_type, "fits", memory.device_bytes, memory.budget_bytes, "recommended"
            ),
        ),
        warnings=(),
    )


def _wanted(hardware: Hardware, profile: Profile, settings: Settings) -> Quant | None:
    if settings.model.quant != "auto":
        return profile.quant(settings.model.quant)
    kind = hardware.accelerators[0].memory if hardware.accelerators else "cpu"
    dedicated = sum(a.memory_bytes or 0 for a in hardware.accelerators)
    capacity = dedicated if kind == "dedicated" else hardware.ram_bytes
    rows = [row for row in profile.rows if kind in row.memory and capacity >= row.at_least_gb * 1e9]
    best = max(rows, key=lambda row: row.at_least_gb, default=None)
    return profile.quant(best.quant) if best else None


def _memory(
    hardware: Hardware, profile: Profile, quant: Quant, tokens: int, kv_type: str, settings: Settings
) -> Memory:
    model = profile.architecture
    weights = device_weights_bytes(quant)
    kv = kv_bytes(model, tokens * settings.context.parallel, kv_type)
    recurrent = recurrent_bytes(model, settings.context.parallel)
    need = weights + kv + recurrent
    budget = hardware.accelerators[0].usable_bytes or 0 if hardware.accelerators else hardware.ram_bytes
    on_device = need if hardware.accelerators else 0
    return Memory(
        weights,
        kv,
        recurrent,
        0,
        0,
        on_device,
        quant.token_embd_bytes + need - on_device,
        budget,
        budget - need,
    )
