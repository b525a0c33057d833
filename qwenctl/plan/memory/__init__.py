"""Predict how much memory a quant needs with a context. Pure: no I/O. Bytes everywhere.

Source of the formulas: llama.cpp b11434 (src/llama-kv-cache*.cpp, src/llama-hparams.cpp,
src/llama-memory-recurrent.cpp, src/models) and dry runs of it on files with the true shapes of some twenty
families, with one or two RPC workers as devices; ``benchmarks/plan_accuracy.py`` repeats them. A term that
was not measured says so. README.md of the folder above names the files.
"""

from qwenctl.plan.memory.compute import compute_bytes, host_compute_bytes, logits_bytes
from qwenctl.plan.memory.extra_parts import draft_bytes, vision_bytes
from qwenctl.plan.memory.kv_caches import checkpoint_bytes, kv_bytes, recurrent_bytes
from qwenctl.plan.memory.load_parts import device_parts, host_part
from qwenctl.plan.memory.parts import DeviceNeed, Memory, MemorySource, Part
from qwenctl.plan.memory.server_load import KV_BYTES_PER_32, MIB, UBATCH, Load
from qwenctl.plan.memory.weights import Share, device_weights_bytes, output_bytes, shares

__all__ = [
    "KV_BYTES_PER_32",
    "MIB",
    "UBATCH",
    "DeviceNeed",
    "Load",
    "Memory",
    "MemorySource",
    "Part",
    "Share",
    "checkpoint_bytes",
    "compute_bytes",
    "device_parts",
    "device_weights_bytes",
    "draft_bytes",
    "host_compute_bytes",
    "host_part",
    "kv_bytes",
    "logits_bytes",
    "output_bytes",
    "recurrent_bytes",
    "shares",
    "vision_bytes",
]
