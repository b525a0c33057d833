"""A layer that keeps keys and values of every token. Pure: no I/O.

Source: llama.cpp b11434, src/llama-kv-cache.cpp: one tensor for keys and one for values, each of all streams.
"""

from qwenctl.model.layers import Layer
from qwenctl.plan.memory.server_load import KV_BYTES_PER_32, Load


def cells(load: Load) -> int:
    """Return the tokens that the caches of all slots hold."""
    return load.stream_tokens * load.streams


def kv_bytes(layer: Layer, load: Load) -> int:
    """Return the size of the layer's cache."""
    return cells(load) * (layer.keys + layer.values) * KV_BYTES_PER_32[load.kv_type] // 32
