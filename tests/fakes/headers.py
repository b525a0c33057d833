"""Headers of GGUF files as values: no bytes, no disk."""

from collections.abc import Mapping

from qwenctl.model.ggml import tensor_bytes
from qwenctl.model.gguf_header import Header, Tensor, Value

F16, Q4_K, Q8_0 = 1, 12, 8
TEMPLATE = "{{ messages }}"
ROWS, WIDE = 512, 256


def tensor(name: str, dims: tuple[int, ...], kind: int, offset: int = 0) -> Tensor:
    return Tensor(name, dims, kind, offset, tensor_bytes(kind, dims))


def header(
    architecture: str | None = "llama",
    keys: Mapping[str, Value] | None = None,
    *,
    template: str | None = TEMPLATE,
    kind: int = Q4_K,
) -> Header:
    """Return a tiny model's header, with more keys or with others."""
    family = {
        "block_count": 2,
        "context_length": 4096,
        "embedding_length": WIDE,
        "feed_forward_length": WIDE,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
    }
    named: dict[str, Value] = {f"{architecture}.{key}": value for key, value in family.items()}
    if architecture is not None:
        named["general.architecture"] = architecture
    if template is not None:
        named["tokenizer.chat_template"] = template
    named |= keys or {}
    tensors = (
        tensor("token_embd.weight", (WIDE, ROWS), Q8_0),
        tensor("blk.0.attn_q.weight", (WIDE, WIDE), kind),
        tensor("blk.1.attn_q.weight", (WIDE, WIDE), kind),
        tensor("output.weight", (WIDE, ROWS), kind),
    )
    return Header(3, named, tensors, 1024, 32)
