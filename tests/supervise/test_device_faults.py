"""Which cause a server has that runs and cannot compute, from its answers and its log."""

import pytest

from qwenctl.supervise.device_faults import cannot_compute, refused_to_compute

METAL = (
    "ggml_metal_synchronize: error: command buffer 1 failed with status 5",
    "error: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
    "ggml_metal_graph_compute: backend is in error state from a previous command buffer failure",
)
"""Source: ggml-org/llama.cpp 27309."""


TAKEN = (
    "ggml_metal_synchronize: error: command buffer 1 failed with status 5",
    "error: Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)",
    "ggml_metal_graph_compute: backend is in error state from a previous command buffer failure - recreate",
)
"""Source: ggml-org/llama.cpp 22214 (M2 Pro, b8800): macOS took the GPU away, and it stays so."""
RADV = ("3.45.098.561 E srv  update_slots: decode() failed: vk::Queue::submit: ErrorDeviceLost",)
"""Source: ggml-org/llama.cpp 25664 (b10005, Strix Halo)."""
L0 = "decode() failed: level_zero backend failed with error: "


@pytest.mark.parametrize(
    ("fault", "tail", "devices", "cause"),
    [
        ("decode() failed: vk::Queue::submit: ErrorDeviceLost", (), ("Vulkan0",), "gpu_lost"),
        ("decode() failed: vk::Queue::submit: ErrorDeviceLost", METAL, (), "gpu_lost"),
        ("decode() failed: vk::Queue::submit: ErrorDeviceLost", RADV, ("Vulkan0",), "gpu_lost"),
        ("Compute error.", TAKEN, ("MTL0",), "gpu_lost"),
        ("Compute error.", METAL, ("MTL0",), "device_out_of_memory"),
        (L0 + "20 (UR_RESULT_ERROR_DEVICE_LOST)", (), ("SYCL0",), "gpu_lost"),
        (L0 + "39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)", (), ("SYCL0",), "device_out_of_memory"),
        (
            "decode() failed: vk::Device::allocateMemory: ErrorOutOfDeviceMemory",
            (),
            ("Vulkan0",),
            "device_out_of_memory",
        ),
        ("decode() failed: std::bad_alloc", (), (), "host_out_of_memory"),
        ("Compute error.", ("srv  update_slots: all slots are idle",), ("CUDA0",), "gpu_lost"),
        ("Compute error.", (), (), "crashed"),
        ("it breaks off its answers", ("error: invalid argument: --x",), (), "crashed"),
    ],
)
def test_the_answer_names_the_cause_else_the_log_does(
    fault: str, tail: tuple[str, ...], devices: tuple[str, ...], cause: str
) -> None:
    ending = cannot_compute(fault, tail, devices)
    assert (ending.cause, ending.permanent, ending.log_tail) == (cause, False, tail)
    assert fault in ending.summary
    assert ending.hint


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ('/completion answered 500: {"error":{"code":500,"message":"Compute error."}}', "Compute error."),
        ('/completion answered 500: {"error": {"message": "decode() failed: x"}}', "decode() failed: x"),
        ('/completion answered 503: {"error":{"message":"Compute error."}}', None),
        ('/completion answered 503: {"error":{"message":"Loading model"}}', None),
        ('/completion answered 500: {"error":{"message":"unknown error"}}', None),
        (None, None),
    ],
)
def test_a_server_that_starts_and_cannot_compute_says_so(said: str | None, fault: str | None) -> None:
    assert refused_to_compute(said) == fault
