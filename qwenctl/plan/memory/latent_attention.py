"""A layer of multi-head latent attention: one compressed row for each token. Pure: no I/O.

Source: llama.cpp b11434, src/llama-kv-cache.cpp: no tensor for values; they are a part of the keys' row.
The queries are multiplied into the compressed space, so they are wide (src/models/deepseek2.cpp).
"""

from qwenctl.model.architecture import Architecture
from qwenctl.model.layers import Layer
from qwenctl.plan.memory.full_attention import cells
from qwenctl.plan.memory.server_load import KV_BYTES_PER_32, Load


def kv_bytes(layer: Layer, load: Load) -> int:
    """Return the size of the layer's cache."""
    return cells(load) * layer.keys * KV_BYTES_PER_32[load.kv_type] // 32


def peak_values(model: Architecture) -> int:
    """Return the values for one token that live at once: queries as made, as compressed, and joined."""
    query = model.key_length_mla + model.kv_lora_rank + model.key_length
    return model.head_count * query + 4 * model.embedding_length
