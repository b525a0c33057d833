"""Add up the sizes of a model's tensors by their place: input, layers, output. Pure: no I/O."""

import re
from dataclasses import dataclass

from qwenctl.model.gguf_header import Header

_BLOCK = re.compile(r"blk\.(\d+)\.")
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
OTHER_INPUT = ("position_embd.weight", "token_types.weight", "per_layer_token_embd.weight")
"""Tensors that stay on the host beside the embedding. Source: llama.cpp b11434, src/llama-arch.cpp, the
tensors of LLM_TENSOR_LAYER_INPUT."""


@dataclass(frozen=True, slots=True)
class TensorSizes:
    """Bytes of a model's tensors. ``output_bytes`` is None where output and embedding share one tensor.

    ``layer_bytes`` are the tensors of each block. ``other_input_bytes`` stay on the host like the embedding.
    ``unknown`` is true if some tensor is of a type newer than the table: then the sums are too small.
    """

    token_embd_bytes: int
    output_bytes: int | None
    layer_bytes: tuple[int, ...]
    other_input_bytes: int
    total_bytes: int
    unknown: bool = False


def sizes_of(headers: tuple[Header, ...]) -> TensorSizes:
    """Return the sizes of the tensors of all parts of a model."""
    tensors = [tensor for header in headers for tensor in header.tensors]
    blocks: dict[int, int] = {}
    by_name: dict[str, int] = {}
    for tensor in tensors:
        size = tensor.bytes or 0
        by_name[tensor.name] = by_name.get(tensor.name, 0) + size
        if found := _BLOCK.match(tensor.name):
            index = int(found[1])
            blocks[index] = blocks.get(index, 0) + size
    count = max(blocks, default=-1) + 1
    dense = count <= 4 * len(blocks) + 4  # a hostile name must not make a list of a billion zeros
    return TensorSizes(
        token_embd_bytes=by_name.get(EMBEDDING, 0),
        output_bytes=by_name.get(OUTPUT),
        layer_bytes=tuple(blocks.get(index, 0) for index in range(count)) if dense else (),
        other_input_bytes=sum(by_name.get(name, 0) for name in OTHER_INPUT),
        total_bytes=sum(by_name.values()),
        unknown=any(tensor.bytes is None for tensor in tensors),
    )
