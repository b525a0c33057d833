"""Put a load together: what each device holds, and what the host holds. Pure: no I/O."""

from qwenctl.hardware.facts import Backend
from qwenctl.model.profile import Profile, Quant
from qwenctl.plan.memory.compute import compute_bytes, host_compute_bytes
from qwenctl.plan.memory.extra_parts import draft_bytes, vision_bytes
from qwenctl.plan.memory.kv_caches import kv_bytes, recurrent_bytes
from qwenctl.plan.memory.parts import Part
from qwenctl.plan.memory.server_load import Load
from qwenctl.plan.memory.weights import file_weights_bytes, mapped_bytes, share_weights_bytes, shares


def device_parts(
    profile: Profile, quant: Quant, load: Load, backends: tuple[Backend, ...], capacities: tuple[int, ...]
) -> tuple[Part, ...]:
    """Return what each device holds, in order; layers are split by ``capacities``."""
    model, count = profile.architecture, len(capacities)
    mapped = mapped_bytes(model, quant, backends)
    parts = []
    for position, share in enumerate(shares(model, capacities)):
        last, some = position == count - 1, share.of(model)
        extras = draft_bytes(profile, quant, load, backends[position]) if last else 0
        extras += vision_bytes(profile, load) if position == 0 else 0
        parts.append(
            Part(
                weights=share_weights_bytes(model, quant, share, last=last) + mapped,
                kv=kv_bytes(model, load, some),
                recurrent=recurrent_bytes(model, load.parallel, load.draft_tokens, some),
                compute=compute_bytes(model, load, backends[position], position, count),
                extras=extras,
                mapped=mapped,
            )
        )
    return tuple(parts)


def host_part(profile: Profile, quant: Quant, load: Load, backends: tuple[Backend, ...]) -> Part:
    """Return what the host holds beside the devices; with none, everything, repacked weights included."""
    model = profile.architecture
    logits = 4 * model.vocab_size * load.parallel
    if not backends:
        extras = draft_bytes(profile, quant, load, "cpu") + vision_bytes(profile, load)
        return Part(
            weights=file_weights_bytes(model, quant),
            kv=kv_bytes(model, load),
            recurrent=recurrent_bytes(model, load.parallel, load.draft_tokens),
            compute=compute_bytes(model, load, "cpu") + logits,
            extras=extras,
        )
    # what Metal maps are the same pages: they count once
    weights = 0 if backends == ("metal",) else quant.token_embd_bytes + quant.other_input_bytes
    return Part(weights, kv=0, recurrent=0, compute=host_compute_bytes(model, load, len(backends)) + logits)
