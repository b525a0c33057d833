"""Predict how much memory a quant needs with a context. Pure: no I/O. Bytes everywhere.

Source of the formulas: llama.cpp b10605 (src/llama-kv-cache.cpp, src/llama-hparams.cpp,
src/llama-memory-recurrent.cpp) and dry runs of b11434 on files with the true shapes, with one to three RPC
workers as devices; ``benchmarks/plan_accuracy.py`` repeats them. A term that was not measured says so.
"""

from dataclasses import dataclass
from typing import Literal

from qwenctl.hardware.facts import Backend
from qwenctl.model.architecture import Architecture
from qwenctl.model.layers import layers
from qwenctl.model.profile import Profile, Quant

MIB = 1024 * 1024
MemorySource = Literal["formula", "bound", "engine", "measured"]
"""Where figures come from. A ``bound`` is an upper limit: nobody has written formulas for this family."""
UBATCH = 512
"""Tokens processed at once. Source: llama.cpp's default of ``--ubatch-size``."""


@dataclass(frozen=True, slots=True)
class DeviceNeed:
    """What one device must hold, and how much it may: a part of ``capacity_bytes``, others get the rest."""

    id: str
    need_bytes: int
    budget_bytes: int
    capacity_bytes: int = 0
    weights_bytes: int = 0
    kv_bytes: int = 0
    recurrent_bytes: int = 0
    compute_bytes: int = 0
    extras_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """A prediction. ``device_bytes`` excludes ``overhead_bytes``; on CPU it is 0 and all is host.

    ``budget_bytes`` is what the devices may hold together (on CPU: the RAM); ``headroom_bytes`` the room left
    in the tightest budget. ``host_bytes`` includes ``cache_bytes`` and ``checkpoints_bytes``.
    """

    weights_bytes: int
    kv_bytes: int
    recurrent_bytes: int
    compute_bytes: int
    overhead_bytes: int
    device_bytes: int
    host_bytes: int
    budget_bytes: int
    headroom_bytes: int
    devices: tuple[DeviceNeed, ...] = ()
    source: MemorySource = "formula"
    extras_bytes: int = 0
    cache_bytes: int = 0
    checkpoints_bytes: int = 0
    host_budget_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """What the server is asked to hold. ``context_tokens`` is the context of each slot.

    ``draft_tokens`` > 0 means the multi-token-prediction block runs with that many drafts a step.
    """

    context_tokens: int
    kv_type: str
    parallel: int = 1
    draft_tokens: int = 0
    vision: bool = False

    @property
    def padded_tokens(self) -> int:
        """Context of one slot as llama.cpp allocates it. Source: llama-context.cpp, a multiple of 256."""
        return -(-self.context_tokens // 256) * 256

    @property
    def batch(self) -> int:
        """Tokens in one compute batch."""
        return min(UBATCH, self.padded_tokens * self.parallel)


@dataclass(frozen=True, slots=True)
class Part:
    """The part of the model one device holds, in bytes."""

    weights: int
    kv: int
    recurrent: int
    compute: int
    extras: int = 0

    @property
    def total(self) -> int:
        """All memory that the device must hold."""
        return self.weights + self.kv + self.recurrent + self.compute + self.extras


@dataclass(frozen=True, slots=True)
class Share:
    """How many layers one device holds."""

    layers: int
    attention_layers: int


BYTES_PER_32 = {
    "f32": 128,
    "f16": 64,
    "bf16": 64,
    "q8_0": 34,
    "q5_1": 24,
    "q5_0": 22,
    "q4_1": 20,
    "q4_0": 18,
    "iq4_nl": 18,
}
"""Bytes that 32 values of a KV type take. Source: ggml/src/ggml-common.h, block sizes."""


def kv_bytes(model: Architecture, context_tokens: int, kv_type: str, count: int | None = None) -> int:
    """Return the size of the KV cache: one layer in ``full_attention_interval`` keeps keys and values."""
    count = sum(layer.attention != "none" for layer in layers(model)) if count is None else count
    values = model.head_count_kv * (model.key_length + model.value_length)
    padded = -(-context_tokens // 256) * 256
    return padded * count * values * BYTES_PER_32[kv_type] // 32


def recurrent_bytes(
    model: Architecture, sequences: int, count: int | None = None, draft_tokens: int = 0
) -> int:
    """Return the size of the recurrent state, 32-bit floats, independent of the context."""
    count = (
        model.block_count - sum(layer.attention != "none" for layer in layers(model))
        if count is None
        else count
    )
    conv = (model.ssm_conv_kernel - 1) * (
        model.ssm_inner_size + 2 * model.ssm_group_count * model.ssm_state_size
    )
    return count * 4 * (conv + model.ssm_state_size * model.ssm_inner_size) * sequences * (1 + draft_tokens)


def output_bytes(model: Architecture, quant: Quant) -> int:
    """Return the size of the output layer. If output and embedding share one tensor, it is copied."""
    if model.tied_embeddings or quant.output_bytes is None:
        return quant.token_embd_bytes
    return quant.output_bytes


def device_weights_bytes(model: Architecture, quant: Quant) -> int:
    """Return the weights of all devices together: all but the input embedding, which is on the host."""
    tensors = quant.bytes - model.header_bytes
    return tensors if model.tied_embeddings else tensors - quant.token_embd_bytes


def shares(model: Architecture, capacities: tuple[int, ...]) -> tuple[Share, ...]:
    """Return what each device gets when layers are split by capacity, in order, the output layer last.

    Source: llama.cpp, src/llama-model.cpp, load_tensors: layer i of n + 1 goes to the first device whose
    cumulative share of the memory exceeds i / (n + 1).
    """
    count, total = model.block_count + 1, sum(capacities)
    ends, reached = [], 0
    for capacity in capacities[:-1]:
        reached += capacity
        ends.append(min(count, -(-reached * count // total)))
    result, start, interval = [], 0, model.full_attention_interval
    for end in (*ends, count):
        stop = min(end, model.block_count)
        result.append(Share(stop - start, stop // interval - start // interval))
        start = stop
    return tuple(result)


def compute_bytes(
    model: Architecture, load: Load, backend: Backend | Literal["cpu"], position: int = 0, devices: int = 1
) -> int:
    """Return the compute buffer of one device, flash attention on, logits for a handful of tokens.

    Metal's and CUDA's terms for attention scratch were emulated, not measured on such hardware: facts of
    llama.cpp #27390 (Metal always) and #23907 (CUDA and HIP with a quantized KV cache). That several devices
    keep four copies of the graph's inputs was measured on two and three RPC workers.
    """
    tokens, wide = load.batch, 4 * model.embedding_length * load.batch
    mask = 2 * load.padded_tokens * tokens
    network = max(_network_bytes(model, tokens), _delta_net_bytes(model, load))
    inputs = mask
    if devices > 1:
        experts = 1 if model.expert_count else 0
        inputs = 4 * mask + wide * ((11 if position == 0 else 6) + experts)
    scratch = load.padded_tokens * load.parallel * model.head_count_kv
    scratch *= (model.key_length + model.value_length) * 2
    heads = 4 * model.head_count * model.key_length * tokens
    quantized = load.kv_type not in ("f16", "bf16", "f32")
    if backend == "cpu":
        return inputs + network + wide
    if backend == "metal":
        return inputs + max(network, scratch + 6 * heads + 4 * wide)
    if backend in ("cuda", "rocm") and quantized:
        return inputs + max(network, scratch + 5 * heads + 4 * wide)
    return inputs + network + (10 * MIB if backend == "vulkan" else 0)


def _network_bytes(model: Architecture, tokens: int) -> int:
    """Return the peak of a feed-forward block: gate, up and their product beside the residual stream."""
    if model.expert_count:
        return 4 * tokens * model.embedding_length * (2 * model.expert_used_count + 2)
    return 4 * tokens * (3 * model.feed_forward_length + 4 * model.embedding_length)


def _delta_net_bytes(model: Architecture, load: Load) -> int:
    """Return the peak of a gated delta net. In small models (0.8B, the demo) it is the largest peak."""
    channels = model.ssm_inner_size + 2 * model.ssm_group_count * model.ssm_state_size
    state = 4 * model.ssm_state_size * model.ssm_inner_size * load.parallel
    return 4 * load.batch * (2 * channels + 4 * model.embedding_length) + state


def logits_bytes(model: Architecture, load: Load) -> int:
    """Return what ``llama-fit-params`` counts instead of the network's peak: logits for a whole batch."""
    return 4 * load.batch * (model.vocab_size + 4 * model.embedding_length)


def draft_bytes(profile: Profile, quant: Quant, load: Load, backend: Backend | Literal["cpu"]) -> int:
    """Return what the multi-token-prediction block takes beside the states: weights, its KV, its compute.

    Source: facts on ggml-org/llama.cpp#22673; 27B is within 2 % of the measured dry run; the
    other sizes are scaled from it.
    """
    if load.draft_tokens == 0 or profile.mtp is None:
        return 0
    model, tokens = profile.architecture, load.batch
    weights = int(quant.bytes * profile.mtp.block_share)
    kv = kv_bytes(model, load.padded_tokens * load.parallel, "f16", count=1)
    mask = 2 * load.padded_tokens * tokens
    narrow = 4 * tokens * 2 * model.feed_forward_length + mask
    if backend == "metal" or (backend in ("cuda", "rocm") and load.kv_type not in ("f16", "bf16", "f32")):
        narrow += kv
    return weights + kv + max(4 * tokens * 3 * (model.feed_forward_length + model.embedding_length), narrow)


def vision_bytes(profile: Profile, load: Load) -> int:
    """Return what the vision encoder takes on the first device."""
    return profile.vision.runtime_bytes if load.vision and profile.vision is not None else 0


def checkpoint_bytes(model: Architecture, load: Load) -> int:
    """Return the size of one context checkpoint: a recurrent state, with drafts their KV cache too."""
    drafts = kv_bytes(model, load.padded_tokens, "f16", count=1) if load.draft_tokens else 0
    return recurrent_bytes(model, 1) + drafts


def device_parts(
    profile: Profile, quant: Quant, load: Load, backends: tuple[Backend, ...], capacities: tuple[int, ...]
) -> tuple[Part, ...]:
    """Return what each device holds, in order; layers are split by ``capacities``."""
    model, count = profile.architecture, len(capacities)
    head = output_bytes(model, quant)
    blocks = device_weights_bytes(model, quant) - head
    parts = []
    for position, share in enumerate(shares(model, capacities)):
        last = position == count - 1
        extras = draft_bytes(profile, quant, load, backends[position]) if last else 0
        extras += vision_bytes(profile, load) if position == 0 else 0
        parts.append(
            Part(
                weights=blocks * share.layers // model.block_count + (head if last else 0),
                kv=load.parallel * kv_bytes(model, load.padded_tokens, load.kv_type, share.attention_layers),
                recurrent=recurrent_bytes(
                    model, load.parallel, share.layers - share.attention_layers, load.draft_tokens
                ),
                compute=compute_bytes(model, load, backends[position], position, count),
                extras=extras,
            )
        )
    return tuple(parts)


def host_part(profile: Profile, quant: Quant, load: Load, devices: int) -> Part:
    """Return what the host holds beside the devices; with none, everything, repacked weights included."""
    model = profile.architecture
    logits = 4 * model.vocab_size * load.parallel
    if devices == 0:
        extras = draft_bytes(profile, quant, load, "cpu") + vision_bytes(profile, load)
        return Part(
            weights=quant.bytes - model.header_bytes,
            kv=load.parallel * kv_bytes(model, load.padded_tokens, load.kv_type),
            recurrent=recurrent_bytes(model, load.parallel, draft_tokens=load.draft_tokens),
            compute=compute_bytes(model, load, "cpu") + logits,
            extras=extras,
        )
    wide = 4 * model.embedding_length * load.batch
    mask = 2 * load.padded_tokens * load.batch
    inputs = 4 * wide + mask if devices == 1 else 10 * wide + 4 * mask
    return Part(weights=quant.token_embd_bytes, kv=0, recurrent=0, compute=inputs + logits)
