"""Predict how much memory a quant needs with a context. Pure: no I/O. Bytes everywhere.

Source of the formulas: llama.cpp b10605, src/llama-kv-cache.cpp, src/llama-hparams.cpp and
src/llama-memory-recurrent.cpp, each checked byte for byte against a dry run of ``llama-fit-params``.
"""

from dataclasses import dataclass
from typing import Literal

from qwenctl.plan.profile import Architecture, Quant

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class DeviceNeed:
    """What one device must hold, and what it may."""

    id: str
    need_bytes: int
    budget_bytes: int


@dataclass(frozen=True, slots=True)
class Memory:
    """A prediction. ``device_bytes`` excludes ``overhead_bytes``; on CPU it is 0 and all is host."""

    weights_bytes: int
    kv_bytes: int
    recurrent_bytes: int
    compute_bytes: int
    overhead_bytes: int
    device_bytes: int
    host_bytes: int
    budget_bytes: int
    headroom_bytes: int
    devices: tuple[DeviceNeed, ...] = ()
    source: Literal["formula", "engine"] = "formula"


BYTES_PER_32 = {
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


def kv_bytes(model: Architecture, context_tokens: int, kv_type: str) -> int:
    """Return the size of the KV cache: one layer in ``full_attention_interval`` keeps keys and values."""
    layers = model.block_count // model.full_attention_interval
    values = model.head_count_kv * (model.key_length + model.value_length)
    padded = -(-context_tokens // 256) * 256
    return padded * layers * values * BYTES_PER_32[kv_type] // 32


def recurrent_bytes(model: Architecture, sequences: int) -> int:
    """Return the size of the recurrent state, 32-bit floats, independent of the context."""
    layers = model.block_count - model.block_count // model.full_attention_interval
    conv = (model.ssm_conv_kernel - 1) * (
        model.ssm_inner_size + 2 * model.ssm_group_count * model.ssm_state_size
    )
    return layers * 4 * (conv + model.ssm_state_size * model.ssm_inner_size) * sequences


def device_weights_bytes(quant: Quant) -> int:
    """Return the weights a device holds with every layer offloaded: all but the input embedding."""
    return quant.bytes - quant.token_embd_bytes
