"""What the name of a quant says of its size: bits a weight, and the type of the embedding. Pure: no I/O."""

import re

from qwenctl.model.architecture import Architecture
from qwenctl.model.ggml import GGML_TYPES

NOMINAL_BITS = {
    "IQ1_S": 2.0042,
    "IQ1_M": 2.146,
    "IQ2_XXS": 2.3824,
    "IQ2_XS": 2.5882,
    "IQ2_S": 2.7403,
    "IQ2_M": 2.9294,
    "IQ3_XXS": 3.2548,
    "IQ3_XS": 3.4977,
    "IQ3_S": 3.6606,
    "IQ3_M": 3.7628,
    "IQ4_XS": 4.4597,
    "IQ4_NL": 4.6818,
    "Q2_K_S": 2.9697,
    "Q2_K": 3.1593,
    "Q3_K_S": 3.6429,
    "Q3_K_M": 3.996,
    "Q3_K": 3.996,
    "Q3_K_L": 4.2979,
    "Q4_K_S": 4.6672,
    "Q4_K_M": 4.8944,
    "Q4_K": 4.8944,
    "Q5_K_S": 5.5704,
    "Q5_K_M": 5.7036,
    "Q5_K": 5.7036,
    "Q6_K": 6.5633,
    "Q8_0": 8.5008,
    "F16": 16.0005,
    "BF16": 16.0005,
    "F32": 32.0,
}
"""Bits a weight of a Llama 3.1 8B. Source: llama.cpp b11434, tools/quantize/README.md."""
UNKNOWN_BITS = 4.8944
"""A name that says nothing: as Q4_K_M, the usual one."""
BLOCK_BITS = {
    kind.name: 8 * kind.bytes / kind.block
    for kind in GGML_TYPES.values()
    if kind.name not in ("F64", "I8", "I16", "I32", "I64", "Q8_1", "Q8_K")  # no weights are stored in these
}

# Source: llama.cpp b11434, src/llama-quant.cpp, llama_tensor_get_type_impl: the rules for TOKEN_EMBD, OUTPUT.
_EMBEDDING = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"), "Q2_K"),
    **dict.fromkeys(("IQ2_S", "IQ2_M", "IQ3_XXS"), "IQ3_S"),
    **dict.fromkeys(("TQ1_0", "TQ2_0"), "Q4_K"),
    **dict.fromkeys(("MXFP4", "MXFP4_MOE", "NVFP4"), "Q8_0"),
}
_POOR_OUTPUT = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS")
_EIGHT_BITS = ("Q2_K_L", "Q3_K_XL", "Q4_K_L", "Q5_K_L", "Q6_K_L")
"""Source: bartowski's model cards, "uses Q8_0 for embed and output weights"."""
_FLOATS = ("F16", "BF16", "F32")


def nominal_bits(quant: str | None) -> float:
    """Return the usual bits a weight of a quant of this name."""
    name = _plain(quant)
    if name in NOMINAL_BITS:
        return NOMINAL_BITS[name]
    if (kind := _base_type(name)) is not None:
        return BLOCK_BITS[kind]
    return UNKNOWN_BITS


def embedding_bytes(quant: str | None, bits: float, architecture: Architecture) -> tuple[int, int | None]:
    """Return the size of token_embd and of output in a quant of this name; None for a tied output.

    Publishers who mix their own types (``_L``, ``_XL``, ``UD-``) come near. ``bits`` decides for a name that
    says nothing.
    """
    name = _plain(quant)
    base = _base_type(name) or ("Q8_0" if bits >= 8 else "Q4_K")
    if name in _EIGHT_BITS and name == (quant or "").upper():
        embedding = output = "Q8_0"
    else:
        output = base if base in _FLOATS else _output_type(name, base)
        embedding = output if architecture.tied_embeddings else _EMBEDDING.get(name, base)
    numbers = architecture.vocab_size * architecture.embedding_length
    size = max(1, round(numbers * BLOCK_BITS[embedding] / 8))
    if architecture.tied_embeddings:
        return size, None
    return size, max(1, round(numbers * BLOCK_BITS[output] / 8))


def _output_type(name: str, base: str) -> str:
    if base == "Q8_0" or _EMBEDDING.get(name) == "Q8_0":
        return "Q8_0"
    return "Q5_K" if name in _POOR_OUTPUT else "Q6_K"


def _plain(quant: str | None) -> str:
    """Return the llama-quantize name inside a publisher's: ``UD-Q4_K_XL`` is a kind of ``Q4_K``."""
    name = (quant or "").upper()
    return re.sub(r"^(?:UD|I1)-", "", name)


def _base_type(name: str) -> str | None:
    """Return the ggml type that most tensors of a quant have, None if the name says none."""
    if name in ("IQ3_XS", "IQ3_M"):
        return "IQ3_S"
    if name == "IQ2_M":
        return "IQ2_S"
    if name == "MXFP4_MOE":
        return "MXFP4"
    if name.startswith("Q8_"):  # UD-Q8_K_XL, Q8_0_L: no file has Q8_K
        return "Q8_0"
    for kind in sorted(BLOCK_BITS, key=len, reverse=True):
        if name == kind or name.startswith(f"{kind}_"):
            return kind
    return None
