"""A layer that reads the cache of an earlier layer, or keeps nothing. Pure: no I/O.

Source: llama.cpp b11434, src/llama-model.cpp (the ``reuse`` of gemma3n and gemma4) and
src/llama-kv-cache.cpp: such a layer gets no tensors of its own.
"""


def kv_bytes() -> int:
    """Return the size of the layer's own cache."""
    return 0
