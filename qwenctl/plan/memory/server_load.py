"""What the server is asked to hold. Pure: no I/O."""

from dataclasses import dataclass

MIB = 1024 * 1024
UBATCH = 512
"""Tokens processed at once. Source: llama.cpp's default of ``--ubatch-size``."""
PAD = 256
"""Caches are multiples of so many tokens. Source: llama.cpp b11434, src/llama-context.cpp (n_ctx) and
src/llama-kv-cache-iswa.cpp (size_swa)."""

KV_BYTES_PER_32 = {
    "f32": 128,
    "f16": 64,
    "bf16": 64,
    "q8_0": 34,
    "q5_1": 24,
    "q5_0": 22,
    "q4_1": 20,
    "q4_0": 18,
    "iq4_nl": 18,
}
"""Bytes that 32 values of a KV type take. Source: ggml/src/ggml-common.h, block sizes."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the server is asked to hold. ``context_tokens`` is the context of each slot.

    ``draft_tokens`` > 0 means the multi-token-prediction block runs with that many drafts a step.
    ``unified``: the slots share one cache (``--kv-unified``); else each has its own.
    """

    context_tokens: int
    kv_type: str
    parallel: int = 1
    draft_tokens: int = 0
    vision: bool = False
    unified: bool = False
    ubatch: int = UBATCH

    @property
    def padded_tokens(self) -> int:
        """Context of one slot as llama.cpp allocates it."""
        return padded(self.context_tokens)

    @property
    def streams(self) -> int:
        """Caches that lie side by side."""
        return 1 if self.unified else self.parallel

    @property
    def stream_tokens(self) -> int:
        """Tokens of one of these caches."""
        return padded(self.context_tokens * self.parallel) if self.unified else self.padded_tokens

    @property
    def batch(self) -> int:
        """Tokens in one compute batch."""
        return min(self.ubatch, self.padded_tokens * self.parallel)

    @property
    def quantized(self) -> bool:
        """Whether the keys and values have fewer than 16 bits."""
        return self.kv_type not in ("f16", "bf16", "f32")


def padded(tokens: int) -> int:
    """Return a number of tokens as a cache allocates it."""
    return -(-tokens // PAD) * PAD
