"""A repository of twenty quants of Llama 3.1 8B as sparse files: real names, shapes and sizes, no weights.

Each file has the header of its quant and a hole. The names are bartowski's; the shape is the model card's.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np

WIDE, DEEP, LAYERS, VOCABULARY, KEYS_VALUES = 4096, 14336, 32, 128256, 1024
MODEL = "Meta-Llama-3.1-8B-Instruct"
TYPES = {
    "Q8_0": "Q8_0",
    "Q6_K_L": "Q6_K",
    "Q6_K": "Q6_K",
    "Q5_K_L": "Q5_K",
    "Q5_K_M": "Q5_K",
    "Q5_K_S": "Q5_K",
    "Q4_1": "Q4_1",
    "Q4_K_L": "Q4_K",
    "Q4_K_M": "Q4_K",
    "Q4_K_S": "Q4_K",
    "Q4_0": "Q4_0",
    "IQ4_NL": "IQ4_NL",
    "IQ4_XS": "IQ4_XS",
    "Q3_K_XL": "Q3_K",
    "Q3_K_L": "Q3_K",
    "Q3_K_M": "Q3_K",
    "Q3_K_S": "Q3_K",
    "Q2_K": "Q2_K",
    "IQ2_M": "IQ2_S",
}
"""The type of most tensors; beside these, BF16 in two parts."""
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant: "


def sparse_repository(folder: Path) -> dict[str, bytes | Path]:
    """Write the files into ``folder`` and return them by name, as ``FakeHub`` serves them."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes | Path] = {"README.md": b"# a model card", ".gitattributes": b"*.gguf lfs"}
    for quant, kind in TYPES.items():
        name = f"{MODEL}-{quant}.gguf"
        files[name] = _write(folder / name, kind, list(_tensors()))
    tensors = list(_tensors())
    for part, some in enumerate((tensors[:150], tensors[150:])):
        name = f"{MODEL}-bf16-{part + 1:05d}-of-00002.gguf"
        files[f"{MODEL}-bf16/{name}"] = _write(folder / name, "BF16", some, part)
    projector = folder / "mmproj-F16.gguf"
    writer = gguf.GGUFWriter(projector, "clip")
    _finish(writer, 10**6)
    return files | {projector.name: projector}


def _tensors() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "token_embd.weight", (WIDE, VOCABULARY)
    for layer in range(LAYERS):
        for name, shape in {
            "attn_norm": (WIDE,),
            "attn_q": (WIDE, WIDE),
            "attn_k": (WIDE, KEYS_VALUES),
            "attn_v": (WIDE, KEYS_VALUES),
            "attn_output": (WIDE, WIDE),
            "ffn_norm": (WIDE,),
            "ffn_gate": (WIDE, DEEP),
            "ffn_up": (WIDE, DEEP),
            "ffn_down": (DEEP, WIDE),
        }.items():
            yield f"blk.{layer}.{name}.weight", shape
    yield "output_norm.weight", (WIDE,)
    yield "output.weight", (WIDE, VOCABULARY)


def _write(path: Path, kind: str, some: list[tuple[str, tuple[int, ...]]], part: int | None = None) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    if part:  # later parts of a split file have no keys but these
        writer.kv_data[0].clear()
    else:
        _add_keys(writer)
    if part is not None:
        writer.add_uint16("split.no", part)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", 291)
    length = 0
    for name, shape in some:
        type_name = "F32" if len(shape) == 1 else kind
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_name]]
        bytes_ = math.prod(shape) // int(block) * int(size)
        writer.add_tensor_info(
            name,
            shape[::-1],
            np.dtype(np.float32),
            bytes_,
            raw_dtype=gguf.GGMLQuantizationType[type_name],
        )
        length += gguf.GGUFWriter.ggml_pad(bytes_, writer.data_alignment)
    return _finish(writer, length)


def _add_keys(writer: gguf.GGUFWriter) -> None:
    writer.add_name("Meta Llama 3.1 8B Instruct")
    writer.add_block_count(LAYERS)
    writer.add_context_length(131072)
    writer.add_embedding_length(WIDE)
    writer.add_feed_forward_length(DEEP)
    writer.add_head_count(32)
    writer.add_head_count_kv(8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(128)
    writer.add_rope_freq_base(500000.0)
    writer.add_vocab_size(VOCABULARY)
    writer.add_string("tokenizer.ggml.model", "none")
    writer.add_chat_template(TEMPLATE)


def _finish(writer: gguf.GGUFWriter, length: int) -> Path:
    path = Path(writer.path)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    total = gguf.GGUFWriter.ggml_pad(path.stat().st_size, writer.data_alignment) + length
    with path.open("r+b") as file:
        file.truncate(total)
    return path
