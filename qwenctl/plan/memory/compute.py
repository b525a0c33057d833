"""Buffers for computing: inputs, the widest moment of a layer, scratch of a backend. Pure: no I/O.

Inputs and networks were measured on dry runs of b11434 (CPU and RPC workers). Metal's and CUDA's scratch for
attention was emulated, then confirmed by logs of public loads (tests/plan/field): #27390 (Metal always) and
#23907 (CUDA and HIP unless keys and values are f16). Builds before b11434 keep two copies of the residual
stream less, on devices and on the host.
"""

from typing import Literal

from qwenctl.hardware.facts import Backend
from qwenctl.model.architecture import Architecture
from qwenctl.model.layers import Layer, layers, window_of
from qwenctl.plan.memory import experts, latent_attention, recurrent, sliding_window
from qwenctl.plan.memory.server_load import MIB, Load

COPIES = 4
"""Copies of the graph's inputs with several devices. Source: GGML_SCHED_MAX_COPIES."""


def compute_bytes(
    model: Architecture, load: Load, backend: Backend | Literal["cpu"], position: int = 0, devices: int = 1
) -> int:
    """Return the compute buffer of one device, flash attention on, logits for a handful of tokens."""
    wide = wide_bytes(model, load)
    network = network_bytes(model, load)
    inputs = mask_bytes(model, load) + rotation_bytes(model, load)
    if devices > 1:
        inputs = COPIES * mask_bytes(model, load) + _boundary_bytes(model, load, backend, position)
    if backend == "cpu":
        return inputs + network + wide
    scratch = _scratch_bytes(model, load)
    heads = 4 * model.head_count * max(model.key_length, model.key_length_swa) * load.batch
    if backend == "metal":
        return inputs + max(network, scratch + 5 * heads + 4 * wide + MIB)
    if backend == "cuda" and load.kv_type != "f16":
        return inputs + max(network, scratch + 5 * heads + 4 * wide)
    if backend == "rocm" and load.kv_type != "f16":
        return inputs + max(network, scratch + 5 * heads + 5 * wide)
    return inputs + network + (wide if backend == "vulkan" else 0)


def host_compute_bytes(model: Architecture, load: Load, devices: int) -> int:
    """Return the compute buffer of the host beside ``devices``, the logits aside."""
    wide, mask = wide_bytes(model, load), mask_bytes(model, load)
    per_layer = _per_layer_bytes(model, load)
    inputs = 4 * wide + per_layer + (wide if per_layer else 0)
    if devices == 1:
        return inputs + mask + rotation_bytes(model, load)
    return inputs + 6 * wide + 3 * per_layer + COPIES * mask


def wide_bytes(model: Architecture, load: Load) -> int:
    """Return one copy of the residual stream."""
    return 4 * model.embedding_length * load.batch


def mask_bytes(model: Architecture, load: Load) -> int:
    """Return the masks, 16 bits for each token of a cache and each of the batch: full, and windowed."""
    kinds = {layer.attention for layer in layers(model)}
    cells = load.stream_tokens if kinds & {"full", "latent"} else 0
    if "window" in kinds:
        cells += sliding_window.stream_cells(window_of(model), load)
    return 2 * cells * load.batch


def rotation_bytes(model: Architecture, load: Load) -> int:
    """Return the matrices that rotate keys and values before they are quantized.

    Source: llama.cpp b11434, src/llama-kv-cache.cpp (attn_rot_k, attn_rot_v).
    """
    length = model.key_length
    if not load.quantized or model.key_length_mla or length == 0 or length % 64:
        return 0
    caches = len({layer.attention for layer in layers(model)} & {"full", "window"})
    size = length & -length  # the largest power of two that divides it
    return caches * 4 * (size * size + 64 * 64)


def network_bytes(model: Architecture, load: Load) -> int:
    """Return the widest moment of any layer."""
    used = [layer for layer in layers(model) if not layer.unused]
    kinds = {(layer.experts, layer.feed_forward): layer for layer in used}
    values = max((experts.peak_values(model, layer) for layer in kinds.values()), default=0)
    if any(layer.attention == "latent" for layer in used):
        values = max(values, latent_attention.peak_values(model))
    peak = 4 * load.batch * values
    if any(layer.recurrent for layer in used):
        peak = max(peak, recurrent.peak_bytes(model, load))
    return peak + _alternating_bytes(model, load)


def logits_bytes(model: Architecture, load: Load) -> int:
    """Return what ``llama-fit-params`` counts instead of the network's peak: logits for a whole batch."""
    return 4 * load.batch * (model.vocab_size + 4 * model.embedding_length)


def _per_layer_bytes(model: Architecture, load: Load) -> int:
    """Return the embeddings that gemma3n and gemma4 look up for each layer of each token."""
    return 4 * load.batch * model.embedding_length_per_layer * model.block_count


def _alternating_bytes(model: Architecture, load: Load) -> int:
    """Return what per-layer embeddings, and gemma3n's four residual streams, take on the device."""
    per_layer = _per_layer_bytes(model, load)
    streams = 5 if model.name == "gemma3n" else 1
    return per_layer + streams * wide_bytes(model, load) if per_layer else 0


def _boundary_bytes(model: Architecture, load: Load, backend: Backend | Literal["cpu"], position: int) -> int:
    """Return the copies of what one device hands to the next.

    CUDA and ROCm: the same on every card, measured on two MI355X. RPC: measured on two and three workers; the
    first one has five copies more. Others: taken as RPC.
    """
    wide = wide_bytes(model, load)
    if backend in ("cuda", "rocm"):
        return COPIES * wide
    recurrent_layers = [layer for layer in layers(model) if layer.recurrent]
    copies = (12 if position == 0 else 7) + bool(model.expert_count) - bool(recurrent_layers)
    if recurrent_layers and not all(_has_network(layer) for layer in recurrent_layers):
        copies += 9 if position == 0 else 21  # mamba without a network beside it
    if model.name == "gemma3n":
        copies += 26 if position == 0 else 28
    return copies * wide + 4 * _per_layer_bytes(model, load)


def _has_network(layer: Layer) -> bool:
    return layer.experts or layer.feed_forward > 0


def _scratch_bytes(model: Architecture, load: Load) -> int:
    """Return keys and values of one layer as f16, for all slots: the largest of any layer."""
    window = sliding_window.stream_cells(window_of(model), load) if window_of(model) else 0
    sizes = [
        (window if layer.attention == "window" else load.stream_tokens) * (layer.keys + layer.values)
        for layer in set(layers(model))
        if layer.attention in ("full", "window", "latent")
    ]
    return 2 * load.streams * max(sizes, default=0)
