"""Write small GGUF files that look like the real model's."""

from pathlib import Path

import gguf
import numpy as np


def write_gguf(
    path: Path, *, bytes_: int = 40_000, tokens: int = 10, template: int = 2000, architecture: str = "qwen35"
) -> Path:
    """Write a file of about ``bytes_`` of random weights."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(4)
    writer.add_rope_dimension_sections([11, 11, 10, 0])
    writer.add_token_list([f"token{number}" for number in range(tokens)])
    writer.add_chat_template("x" * template)
    rows = max(1, bytes_ // 1024)
    generator = np.random.default_rng(7)
    writer.add_tensor("token_embd.weight", generator.random((rows, 256), dtype=np.float32))
    writer.add_tensor(
        "blk.0.attn_q.weight",
        generator.integers(0, 255, (4, 144), dtype=np.uint8),
        raw_dtype=gguf.GGMLQuantizationType.Q4_K,
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
