"""A layer that keeps keys and values of the last tokens only. Pure: no I/O.

Source: llama.cpp b11434, src/llama-kv-cache-iswa.cpp: the window and one batch, a multiple of 256, at most
the whole context. A unified cache holds the windows of all slots. ``--swa-full`` is off.
"""

from qwenctl.model.layers import Layer
from qwenctl.plan.memory.server_load import KV_BYTES_PER_32, Load, padded


def stream_cells(window: int, load: Load) -> int:
    """Return the tokens that one cache holds."""
    windows = window * (load.parallel if load.unified else 1)
    return padded(min(load.stream_tokens, windows + load.batch))


def kv_bytes(layer: Layer, window: int, load: Load) -> int:
    """Return the size of the layer's cache."""
    values = layer.keys + layer.values
    return stream_cells(window, load) * load.streams * values * KV_BYTES_PER_32[load.kv_type] // 32
