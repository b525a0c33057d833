"""The network of a layer: dense, or a mixture of experts. Pure: no I/O.

Measured on dry runs of b11434: gate, up and their product live beside four copies of the residual stream. A
shared expert, or a mixture's output, is added to that where ggml's allocator finds no hole for it.
"""

from qwenctl.model.architecture import Architecture
from qwenctl.model.layers import Layer


def peak_values(model: Architecture, layer: Layer) -> int:
    """Return the values for one token that live at once."""
    wide = model.embedding_length
    if not layer.experts:
        return 3 * layer.feed_forward + 4 * wide
    used, deep = model.expert_used_count, expert_length(model, layer)
    # the experts' outputs fit into the hole that gate and up leave, if they are no wider
    outputs = used * wide if wide > 2 * deep else 0
    return max(outputs + 3 * used * deep + 4 * wide, 3 * _shared(model) + 5 * wide)


def expert_length(model: Architecture, layer: Layer) -> int:
    """Return the length of one expert; some families have no key of its own for it."""
    return model.expert_feed_forward_length or layer.feed_forward


def _shared(model: Architecture) -> int:
    """Return the length of the shared experts."""
    if model.expert_shared_feed_forward_length:
        return model.expert_shared_feed_forward_length
    if model.expert_shared_count:
        return model.expert_shared_count * model.expert_feed_forward_length
    return model.expert_feed_forward_length if model.name == "llama4" else 0
