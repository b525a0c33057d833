"""Caches and states of some layers together. Pure: no I/O."""

from collections.abc import Sequence

from qwenctl.model.architecture import Architecture
from qwenctl.model.layers import Layer, layers, window_of
from qwenctl.plan.memory import full_attention, latent_attention, recurrent, shared_kv, sliding_window
from qwenctl.plan.memory.server_load import Load


def kv_bytes(model: Architecture, load: Load, some: Sequence[Layer] | None = None) -> int:
    """Return the size of the caches of some layers, or of all."""
    window = window_of(model)
    return sum(_layer_bytes(layer, window, load) for layer in (layers(model) if some is None else some))


def _layer_bytes(layer: Layer, window: int, load: Load) -> int:
    match layer.attention:
        case "full":
            return full_attention.kv_bytes(layer, load)
        case "window":
            return sliding_window.kv_bytes(layer, window, load)
        case "latent":
            return latent_attention.kv_bytes(layer, load)
        case "shared" | "none":
            return shared_kv.kv_bytes()


def recurrent_bytes(
    model: Architecture, sequences: int, draft_tokens: int = 0, some: Sequence[Layer] | None = None
) -> int:
    """Return the size of the states of some layers, or of all."""
    count = sum(layer.recurrent for layer in (layers(model) if some is None else some))
    return count * recurrent.state_bytes(model, sequences, draft_tokens) if count else 0


def draft_kv_bytes(model: Architecture, load: Load) -> int:
    """Return the size of the drafts' own cache: one layer, always f16."""
    values = model.head_count_kv * (model.key_length + model.value_length)
    return load.padded_tokens * load.parallel * values * 2


def checkpoint_bytes(model: Architecture, load: Load) -> int:
    """Return the size of one context checkpoint: what cannot be cut back to an earlier token.

    These are a slot's recurrent state, its sliding windows, and with drafts their cache.
    Source: llama.cpp b11434, tools/server/server-context.cpp (LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY).
    """
    one = Load(load.context_tokens, load.kv_type)
    windows = [layer for layer in layers(model) if layer.attention == "window"]
    drafts = draft_kv_bytes(model, one) if load.draft_tokens else 0
    return recurrent_bytes(model, 1) + kv_bytes(model, one, windows) + drafts
