"""GGUF files with a real model's header and no weights: sparse, a few hundred KiB of disk at any size.

Made with the ``gguf`` package: keys, tensor names, shapes and types of llama.cpp's qwen35 converter, then a
hole as long as the tensors would be. A vocabulary of type ``none`` with ``vocab_size`` stands for the tokens.
"""

import math
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from qwenctl.model.architecture import Architecture
from qwenctl.model.profile import File, Quant

TypeOf = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Tensor:
    """Name, GGUF shape (innermost first) and whether llama-quantize leaves it at 32 bits."""

    name: str
    shape: tuple[int, ...]
    plain: bool = False


def tensors(model: Architecture, *, tied: bool = False) -> Iterator[Tensor]:
    """Yield every tensor of a qwen35 or qwen35moe model in the converter's order."""
    wide = model.embedding_length
    yield Tensor("token_embd.weight", (wide, model.vocab_size))
    for layer in range(model.block_count):
        full = (layer + 1) % model.full_attention_interval == 0
        for tensor in (*(_attention(model) if full else _delta_net(model)), *_network(model)):
            yield Tensor(f"blk.{layer}.{tensor.name}", tensor.shape, tensor.plain)
    yield Tensor("output_norm.weight", (wide,), plain=True)
    if not tied:
        yield Tensor("output.weight", (wide, model.vocab_size))


def _attention(model: Architecture) -> Iterator[Tensor]:
    wide = model.embedding_length
    yield Tensor("attn_norm.weight", (wide,), plain=True)
    yield Tensor("attn_q.weight", (wide, 2 * model.head_count * model.key_length))
    yield Tensor("attn_k.weight", (wide, model.head_count_kv * model.key_length))
    yield Tensor("attn_v.weight", (wide, model.head_count_kv * model.value_length))
    yield Tensor("attn_output.weight", (model.head_count * model.value_length, wide))
    yield Tensor("attn_q_norm.weight", (model.key_length,), plain=True)
    yield Tensor("attn_k_norm.weight", (model.key_length,), plain=True)


def _delta_net(model: Architecture) -> Iterator[Tensor]:
    wide, inner, rank = model.embedding_length, model.ssm_inner_size, model.ssm_time_step_rank
    channels = inner + 2 * model.ssm_group_count * model.ssm_state_size
    yield Tensor("attn_norm.weight", (wide,), plain=True)
    yield Tensor("attn_qkv.weight", (wide, channels))
    yield Tensor("attn_gate.weight", (wide, inner))
    yield Tensor("ssm_conv1d.weight", (model.ssm_conv_kernel, channels), plain=True)
    yield Tensor("ssm_dt.bias", (rank,), plain=True)
    yield Tensor("ssm_a", (rank,), plain=True)
    yield Tensor("ssm_beta.weight", (wide, rank))
    yield Tensor("ssm_alpha.weight", (wide, rank))
    yield Tensor("ssm_norm.weight", (inner // rank,), plain=True)
    yield Tensor("ssm_out.weight", (inner, wide))


def _network(model: Architecture) -> Iterator[Tensor]:
    yield Tensor("post_attention_norm.weight", (model.embedding_length,), plain=True)
    yield from _experts(model) if model.expert_count else _feed_forward(model)


def _experts(model: Architecture) -> Iterator[Tensor]:
    wide, count, deep = model.embedding_length, model.expert_count, model.expert_feed_forward_length
    yield Tensor("ffn_gate_inp.weight", (wide, count), plain=True)
    yield Tensor("ffn_gate_exps.weight", (wide, deep, count))
    yield Tensor("ffn_up_exps.weight", (wide, deep, count))
    yield Tensor("ffn_down_exps.weight", (deep, wide, count))
    yield Tensor("ffn_gate_inp_shexp.weight", (wide,), plain=True)
    yield Tensor("ffn_gate_shexp.weight", (wide, model.feed_forward_length))
    yield Tensor("ffn_up_shexp.weight", (wide, model.feed_forward_length))
    yield Tensor("ffn_down_shexp.weight", (model.feed_forward_length, wide))


def _feed_forward(model: Architecture) -> Iterator[Tensor]:
    wide, deep = model.embedding_length, model.feed_forward_length
    yield Tensor("ffn_gate.weight", (wide, deep))
    yield Tensor("ffn_up.weight", (wide, deep))
    yield Tensor("ffn_down.weight", (deep, wide))


def size_of(shape: tuple[int, ...], kind: str) -> int:
    """Return the bytes of a tensor of that shape and GGML type."""
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    return math.prod(shape) // int(block) * int(size)


def write_hole(path: Path, writer: gguf.GGUFWriter, typed: Iterable[tuple[Tensor, str]]) -> int:
    """Write the keys, the tensors with their types, and a hole for the weights. Return the size in bytes."""
    length = 0
    for tensor, kind in typed:
        size = size_of(tensor.shape, kind)
        writer.add_tensor_info(
            tensor.name,
            tensor.shape[::-1],
            np.dtype(np.float32),
            size,
            raw_dtype=gguf.GGMLQuantizationType[kind],
        )
        length += gguf.GGUFWriter.ggml_pad(size, writer.data_alignment)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    total: int = gguf.GGUFWriter.ggml_pad(path.stat().st_size, writer.data_alignment) + length
    with path.open("r+b") as file:
        file.truncate(total)
    return total


def write_shaped(path: Path, model: Architecture, type_of: TypeOf, *, tied: bool = False) -> int:
    """Write the sparse file and return its size in bytes."""
    writer = gguf.GGUFWriter(path, model.name)
    for key, value in _keys(model).items():
        writer.add_uint32(f"{model.name}.{key}", value)
    writer.add_float32(f"{model.name}.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_float32(f"{model.name}.rope.freq_base", 1e7)
    writer.add_array(f"{model.name}.rope.dimension_sections", [11, 11, 10, 0])
    writer.add_string("tokenizer.ggml.model", "none")
    typed = ((one, "F32" if one.plain else type_of(one.name)) for one in tensors(model, tied=tied))
    return write_hole(path, writer, typed)


def _keys(model: Architecture) -> dict[str, int]:
    experts = {
        "expert_count": model.expert_count,
        "expert_used_count": model.expert_used_count,
        "expert_feed_forward_length": model.expert_feed_forward_length,
        "expert_shared_feed_forward_length": model.feed_forward_length,
    }
    return (experts if model.expert_count else {}) | {
        "block_count": model.block_count,
        "context_length": model.context_length,
        "embedding_length": model.embedding_length,
        "feed_forward_length": model.feed_forward_length,
        "attention.head_count": model.head_count,
        "attention.head_count_kv": model.head_count_kv,
        "attention.key_length": model.key_length,
        "attention.value_length": model.value_length,
        "rope.dimension_count": 64,
        "ssm.conv_kernel": model.ssm_conv_kernel,
        "ssm.state_size": model.ssm_state_size,
        "ssm.group_count": model.ssm_group_count,
        "ssm.time_step_rank": model.ssm_time_step_rank,
        "ssm.inner_size": model.ssm_inner_size,
        "full_attention_interval": model.full_attention_interval,
        "vocab_size": model.vocab_size,
    }


def types_of(quantize: Path, plain: Path, quant: str) -> dict[str, str]:
    """Ask ``llama-quantize --dry-run`` which type each tensor of a 16-bit file would get."""
    done = subprocess.run(
        [str(quantize), "--dry-run", str(plain), quant],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    rows = re.findall(r"\] (\S+) .*type = *(\w+), size = .*?(?:-> .*\((\w+)\))?$", done.stdout, re.MULTILINE)
    rows = rows or re.findall(
        r"\] (\S+) .*type = *(\w+), size = .*?(?:-> .*\((\w+)\))?$", done.stderr, re.MULTILINE
    )
    return {name: (after or before).upper() for name, before, after in rows}


def shaped_quant(path: Path, model: Architecture, types: dict[str, str], name: str) -> Quant:
    """Write the file of one quant and return it as a profile would list it; set ``header_bytes`` with it."""
    tied = model.tied_embeddings
    size = write_shaped(path, model, lambda tensor: types[tensor], tied=tied)
    sizes = {tensor.name: size_of(tensor.shape, types[tensor.name]) for tensor in tensors(model, tied=tied)}
    return Quant(
        name=name,
        files=(File(name=path.name, bytes=size),),
        token_embd_bytes=sizes["token_embd.weight"],
        output_bytes=sizes.get("output.weight"),
        bits_per_weight=1,
        source="a file of the model's shape",
    )


def header_bytes(model: Architecture, types: dict[str, str], quant: Quant) -> int:
    """Return the bytes of a shaped file that are no tensors."""
    return quant.bytes - sum(
        size_of(tensor.shape, types[tensor.name]) for tensor in tensors(model, tied=model.tied_embeddings)
    )
