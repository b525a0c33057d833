"""The bytes of a tiny model that every llama-server can load: the question of the smoke test. Pure: no I/O.

The file is written here, with ``struct`` alone: the ``gguf`` package and numpy are extras, and a file in the
package would be bytes that nobody can read. Its architecture is plain ``llama``, which every build knows. Its
head size of 64 and its half-precision weights are those of common models, so that a card runs its ordinary
kernels. Its answers are noise.

Source: the GGUF specification, docs/gguf.md of the ggml repository; ``LLM_ARCH_LLAMA`` in llama.cpp.
"""

import struct
from collections.abc import Iterator, Sequence

WIDTH, HEADS, LAYERS, HIDDEN, CONTEXT = 128, 2, 1, 128, 256
MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
UINT32, INT32, FLOAT32, STRING, ARRAY = 4, 5, 6, 8, 9
"""Types of values. Source: the GGUF specification."""
F32, F16 = 0, 1
"""Types of tensors. Source: the GGUF specification."""
NORMAL_TOKEN, CONTROL_TOKEN = 1, 3
END_OF_TEXT = "<|endoftext|>"

Tensor = tuple[str, tuple[int, ...], int]
"""Name, shape with the row's length first, type."""


def tiny_model() -> bytes:
    """Return the file. It is the same each time."""
    tensors, keys = tuple(_tensors()), tuple(_keys())
    head = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(keys)), *keys]
    offset, data = 0, []
    for name, shape, kind in tensors:
        head.append(_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
        content = _padded(_values(shape, kind))
        data.append(content)
        offset += len(content)
    return _padded(b"".join(head)) + b"".join(data)


def _keys() -> Iterator[bytes]:
    tokens = [*byte_tokens(), END_OF_TEXT]
    yield _key("general.architecture", STRING, _string("llama"))
    yield _key("general.name", STRING, _string("smoke test (noise)"))
    for name, number in (
        ("block_count", LAYERS),
        ("context_length", CONTEXT),
        ("embedding_length", WIDTH),
        ("feed_forward_length", HIDDEN),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", HEADS),
        ("rope.dimension_count", WIDTH // HEADS),
        ("vocab_size", len(tokens)),
    ):
        yield _key(f"llama.{name}", UINT32, struct.pack("<I", number))
    yield _key("llama.attention.layer_norm_rms_epsilon", FLOAT32, struct.pack("<f", 1e-5))
    yield _key("tokenizer.ggml.model", STRING, _string("gpt2"))
    yield _key("tokenizer.ggml.pre", STRING, _string("gpt-2"))
    yield _array("tokenizer.ggml.tokens", STRING, [_string(token) for token in tokens])
    kinds = [*[NORMAL_TOKEN] * (len(tokens) - 1), CONTROL_TOKEN]
    yield _array("tokenizer.ggml.token_type", INT32, [struct.pack("<i", kind) for kind in kinds])
    yield _array("tokenizer.ggml.merges", STRING, [_string(f"{tokens[0]} {tokens[1]}")])  # none is refused
    yield _key("tokenizer.ggml.eos_token_id", UINT32, struct.pack("<I", len(tokens) - 1))


def _tensors() -> Iterator[Tensor]:
    vocabulary = 257
    yield "token_embd.weight", (WIDTH, vocabulary), F16
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"blk.{layer}.{name}.weight", (WIDTH, WIDTH), F16
        yield f"blk.{layer}.ffn_gate.weight", (WIDTH, HIDDEN), F16
        yield f"blk.{layer}.ffn_up.weight", (WIDTH, HIDDEN), F16
        yield f"blk.{layer}.ffn_down.weight", (HIDDEN, WIDTH), F16
        yield f"blk.{layer}.attn_norm.weight", (WIDTH,), F32
        yield f"blk.{layer}.ffn_norm.weight", (WIDTH,), F32
    yield "output_norm.weight", (WIDTH,), F32
    yield "output.weight", (WIDTH, vocabulary), F16


def _values(shape: tuple[int, ...], kind: int) -> bytes:
    """Return ones for a norm, and small numbers without a visible order for a matrix."""
    count = 1
    for length in shape:
        count *= length
    if kind == F32:
        return struct.pack(f"<{count}f", *[1.0] * count)
    seed, numbers = count, []
    for _ in range(count):
        seed = (seed * 1_103_515_245 + 12_345) & 0x7FFFFFFF  # the generator of the C standard's example
        numbers.append((seed >> 16) / 0x7FFF * 0.1 - 0.05)
    return struct.pack(f"<{count}e", *numbers)


def byte_tokens() -> list[str]:
    """Return the 256 byte tokens in GPT-2's printable spelling, in its order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(len(rest))]


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _key(name: str, kind: int, value: bytes) -> bytes:
    return _string(name) + struct.pack("<I", kind) + value


def _array(name: str, kind: int, values: Sequence[bytes]) -> bytes:
    return _key(name, ARRAY, struct.pack("<IQ", kind, len(values)) + b"".join(values))


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % ALIGNMENT)
