"""The texts in a server's log that show why it ended. Pure: a table.

A new text comes with a captured log in tests/supervise/samples.
"""

import re
from dataclasses import dataclass

from qwenctl.engine.usability import DRIVER_REFUSES, UNUSABLE_TEXTS


@dataclass(frozen=True, slots=True)
class CrashText:
    """A text, what it means, and what would help. Its first group that matched is shown to people."""

    text: re.Pattern[str]
    cause: str
    summary: str
    permanent: bool
    hint: str


def _any(*texts: str) -> re.Pattern[str]:
    return re.compile("|".join(texts), re.MULTILINE)


BUILD_TEXTS = tuple(
    CrashText(sign.text, sign.cause, sign.summary, permanent=True, hint=sign.hint)
    for sign in UNUSABLE_TEXTS
    if sign.cause != DRIVER_REFUSES  # of a server that runs, the same texts say that memory ran out
)
"""The texts of a build that does not suit this machine: those of engine/usability.py."""
CRASH_TEXTS = (
    *BUILD_TEXTS,
    CrashText(
        _any(r"^error: (?:invalid argument|unknown argument|unknown option): (\S+)"),
        "bad_flag",
        "it does not know a flag",
        permanent=True,
        hint="look at [server] extra_args",
    ),
    CrashText(
        _any(
            r"^error while handling argument \"([^\"]+)\"",
            r"^error: (?:while handling argument|expected value for argument) ?\"?([^\"\s]*)",
        ),
        "bad_flag",
        "it does not accept a flag's value",
        permanent=True,
        hint="look at [server] extra_args",
    ),
    CrashText(
        _any(r"couldn't bind HTTP server socket, hostname: (.+)"),
        "port_taken",
        "its address is taken or not allowed",
        permanent=False,  # whoever holds it may leave
        hint="qwenctl up --port N uses another one",
    ),
    CrashText(
        _any(r"failed to open GGUF file '([^']+)'"),
        "model_missing",
        "the model file cannot be opened",
        permanent=True,
        hint="qwenctl fetch brings it; or set [model] path",
    ),
    CrashText(
        _any(r"unknown model architecture: '([^']+)'"),
        "model_unknown",
        "this build does not know the model's architecture",
        permanent=True,
        hint="install a newer llama.cpp",
    ),
    CrashText(
        _any(
            r"invalid magic characters",
            r"data is not within the file bounds",
            r"gguf_init_from_(?:file|reader)(?:_impl)?: failed to read",
        ),
        "model_corrupt",
        "the model file is damaged or incomplete",
        permanent=True,
        hint="qwenctl fetch checks it and brings it again",
    ),
    CrashText(
        _any(
            r"(cudaMalloc failed: out of memory)",
            r"(CUDA error: out of memory)",
            r"(hipMalloc failed: out of memory)",
            r"vk::Device::allocateMemory: (ErrorOutOfDeviceMemory)",
            r"(kIOGPUCommandBufferCallbackErrorOutOfMemory)",
            r"failed to allocate ((?!CPU|Host)[A-Z][A-Za-z]+\d\S* buffer of size \d+)",
        ),
        "device_out_of_memory",
        "device memory ran out",
        permanent=False,
        hint="choose a smaller quant or context, or end other programs on the device",
    ),
    CrashText(
        _any(
            r"(ggml_aligned_malloc: insufficient memory)",
            r"(std::bad_alloc)",
            r"failed to allocate ((?:CPU|Host)\S* buffer of size \d+)",
            r"alloc_buffer: failed to allocate (buffer of size \d+)",
        ),
        "host_out_of_memory",
        "host memory ran out",
        permanent=False,
        hint="choose a smaller quant or context, or end other programs",
    ),
    CrashText(
        _any(
            r"(Remote RPC server crashed)",
            r"(Failed to connect to \S+)",
            r"(vk::DeviceLostError|ErrorDeviceLost)",
            r"CUDA error: (no CUDA-capable device is detected|unspecified launch failure|unknown error"
            r"|an illegal memory access was encountered|device not ready|the launch timed out.*"
            r"|uncorrectable ECC error encountered|driver shutting down)",
            r"(GPU has fallen off the bus)",
        ),
        "gpu_lost",
        "the device was lost",
        permanent=False,  # it may come back
        hint="see the system's log for the driver's own words; a lost GPU may need a reboot",
    ),
)
"""In this order; the first match wins.

Source: texts of llama-server b11434 and of ld.so, captured; CUDA, Vulkan and Metal texts after reports
in llama.cpp #20431, #26297, #29270, #13248 and ollama #9247.
"""
