"""Say what a candidate needs on a machine: the formulas, corrected by what is known. Pure: no I/O."""

from dataclasses import dataclass, field

from qwenctl.model.layers import is_known
from qwenctl.model.profile import Profile, Quant
from qwenctl.plan.budget import Machine, Need
from qwenctl.plan.known import KnownLoad, as_mapped, corrected, nearest
from qwenctl.plan.memory import (
    MIB,
    Load,
    MemorySource,
    Part,
    checkpoint_bytes,
    device_parts,
    host_part,
)
from qwenctl.plan.order import Candidate
from qwenctl.plan.outcome import Extras
from qwenctl.settings.types import Settings


@dataclass(frozen=True, slots=True)
class Question:
    """What is planned for what. ``held`` remembers what each load takes: caches alone do not change it."""

    ways: tuple[Machine, ...]
    profile: Profile
    settings: Settings
    extras: Extras
    known: tuple[KnownLoad, ...] = ()
    held: dict[tuple[str, int, str, int], Need] = field(default_factory=dict)


def need_of(question: Question, candidate: Candidate, way: int) -> Need:
    """Return what a candidate needs on the ``way``-th way of using the machine."""
    parallel = question.settings.context.parallel
    key = (candidate.quant.name, candidate.context_tokens, candidate.kv_type, way)
    if key not in question.held:
        extras = question.extras
        load = Load(candidate.context_tokens, candidate.kv_type, parallel, extras.draft_tokens, extras.vision)
        checkpoints = parallel * checkpoint_bytes(question.profile.architecture, load)
        parts, host, source = _load_need(question, candidate.quant, load, question.ways[way])
        question.held[key] = Need(parts, host, 0, checkpoints, source)
    held = question.held[key]
    return Need(
        held.parts,
        held.host,
        candidate.cache_ram_mib * MIB,
        candidate.checkpoints * held.checkpoints_bytes,
        held.source,
    )


def _load_need(
    question: Question, quant: Quant, load: Load, machine: Machine
) -> tuple[tuple[Part, ...], Part, MemorySource]:
    """Return what a load takes on the devices and on the host, and where the figures come from."""
    parts, host = _predicted(question.profile, quant, load, machine)
    plain = load.draft_tokens == 0 and not load.vision
    known = nearest(question.known, quant.name, load, len(parts)) if plain else None
    if known is None:
        return parts, host, "formula" if is_known(question.profile.architecture) else "bound"
    if any(accelerator.backend == "metal" for accelerator in machine.accelerators):
        known = as_mapped(known, parts, host)
    if known.is_of(quant.name, load, len(parts)):
        return known.parts, known.host, known.source
    other = Load(known.context_tokens, known.kv_type, known.parallel)
    at_parts, at_host = _predicted(question.profile, quant, other, machine)
    return (
        tuple(corrected(*three) for three in zip(parts, at_parts, known.parts, strict=True)),
        corrected(host, at_host, known.host),
        known.source,
    )


def _predicted(profile: Profile, quant: Quant, load: Load, machine: Machine) -> tuple[tuple[Part, ...], Part]:
    """Return what the formulas say about the devices and the host."""
    backends = tuple(accelerator.backend for accelerator in machine.accelerators)
    parts: tuple[Part, ...] = ()
    if machine.accelerators:
        parts = device_parts(profile, quant, load, backends, machine.usable)
    return parts, host_part(profile, quant, load, backends)
