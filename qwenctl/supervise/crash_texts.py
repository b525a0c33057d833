"""The texts in a server's own lines that show why it ended. Pure: a table.

A new text comes with a captured log in tests/supervise/samples, or with a report of one in
tests/supervise/crash. The texts of a load that failed are in load_texts.py,
those of a build that does not suit the machine in build_texts.py, those of the system in system_texts.py.
"""

import re
from dataclasses import dataclass

EXIT, ABORT, FAULT = "exit", "abort", "fault"
"""How a process ends: with a code of its own, with SIGABRT, with another signal of a fault."""
ANY_BACKEND = "*"
WRONG_BUILD = "wrong_build"


@dataclass(frozen=True, slots=True)
class CrashText:
    """A text, what it means, and what would help. Its groups that matched are shown to people.

    It counts at the start of a line, and only together with the ends in ``ends``. ``backends`` says whose
    device it speaks of: it never counts for a plan without such a device. ``on_mac`` is said on a Mac, too.
    """

    text: re.Pattern[str]
    cause: str
    summary: str
    permanent: bool
    hint: str
    ends: tuple[str, ...] = (EXIT, ABORT, FAULT)
    backends: tuple[str, ...] = ()
    on_mac: str | None = None

    def hint_on(self, platform: str) -> str:
        """Return the hint for a server on that platform."""
        return f"{self.hint}; {self.on_mac}" if self.on_mac and platform == "darwin" else self.hint

    def match(self, message: str) -> str | None:
        """Return the summary of a line that shows it, None for another line."""
        message = message.strip()
        found = self.text.match(message)
        if found is None or (_EXCEPTION.match(message) and not _OF_A_MACHINE.match(message)):
            return None
        named = ": ".join(group for group in found.groups() if group)
        return f"{self.summary}: {named}" if named else self.summary


_EXCEPTION = re.compile(r"what\(\): |libc\+\+abi: terminating ")
_OF_A_MACHINE = re.compile(
    r"(?:what\(\): +|libc\+\+abi: terminating (?:due to|with) uncaught exception of type (?:std::\w+: )?)"
    r"(?:vk::|sycl::|std::(?:__1::)?(?:bad_alloc|system_error)|Native API|\w+ backend failed"
    r"|The program was built|No device of requested|Resource temporarily|Cannot allocate"
    r"|Unable to generate parser|filesystem error: |\w+: (?:wrong|too) \w+)"
)
"""Exceptions whose words no client has a part in. Those of a parser or a grammar quote what a client sent."""
WHO = r"(?:(?:srv|slot|cmn|spec) +[\w~]+(?:\(\))?: )?(?:[\w:.]+(?:\(\))?: ){0,2}"
"""The function that logs a line, as the builds print it."""
AT = r"(?:\S+\.(?:cpp|cu|cuh|c|m|mm|h|hpp):\d+: )"
"""Where ggml aborts: file and line."""


def starts(*texts: str) -> re.Pattern[str]:
    """Return a pattern for lines that start with one of these texts, after the function that logs them."""
    return re.compile(f"(?:{WHO})(?:" + "|".join(texts) + ")")


LIBRARY_MISSING = "library_missing"
GPU_ERROR = r"(?:(?:CUDA|ROCm|MUSA|HIP) error: |(?:CUDA|cuBLAS|HIP|hipBLAS) error \d+ at \S+: )"
"""Since 2024, and before."""
THROWN = (
    r"(?:what\(\): +|terminate called .*'"
    r"|libc\+\+abi: terminating (?:due to|with) uncaught exception of type |error loading model: "
    r"|(?:pre_|post_)?decode\(\) failed: )"
)
VULKAN = rf"(?:{THROWN}|ggml_vulkan: )"
CUDA = ("CUDA", "ROCM", "MUSA")
DEVICE_HINT = "choose a smaller quant or context, or end other programs on the device"
LOST_HINT = "see the system's log for the driver's own words; a lost GPU may need a reboot"
AMD_HINT = (
    LOST_HINT + "; for an AMD card, dmesg names the ring that hung, amdgpu.lockup_timeout gives it longer"
)
WORKER_ON_MAC = (
    "macOS 15 and later may refuse a service the local network: "
    "System Settings, Privacy & Security, Local Network"
)
MAC_HINT = "macOS took the GPU away: it was busy for too long, or an earlier command failed; a restart helps"


def _lost(
    backends: tuple[str, ...],
    *texts: str,
    ends: tuple[str, ...] = (EXIT, ABORT),
    hint: str = LOST_HINT,
    on_mac: str | None = None,
) -> CrashText:
    # it may come back, so it is not permanent
    return CrashText(starts(*texts), "gpu_lost", "the device was lost", False, hint, ends, backends, on_mac)


def _full(backends: tuple[str, ...], *texts: str, ends: tuple[str, ...] = (EXIT, ABORT)) -> CrashText:
    pattern = starts(*texts)
    summary = "device memory ran out"
    return CrashText(pattern, "device_out_of_memory", summary, False, DEVICE_HINT, ends, backends)


DEVICE_TEXTS = (
    _full(
        CUDA,
        r"(?:allocating [\d.]+ MiB on device \d+: )?"
        r"((?:cuda|hip|musa)Malloc\w* failed: out of memory|cuMem\w+ failed: out of memory)",
        GPU_ERROR + r"?(NvMapMem\w+: .*error 12)",
        ends=(EXIT, ABORT, FAULT),
    ),
    _full(
        CUDA,
        rf"({GPU_ERROR}(?:out of memory|the resource allocation failed|\w+_STATUS_ALLOC_FAILED"
        r"|memory allocation error))",
        r".*rocm?device\.cpp.*(HSA_STATUS_ERROR_OUT_OF_RESOURCES)",
        ends=(ABORT,),  # each of these aborts
    ),
    _full(CUDA, r"((?:CUDA|cuBLAS|HIP|hipBLAS) error \d+ at \S+: out of memory)"),  # exits: before 2024
    _full(
        ("CANN",),
        r"CANN error: (E\w+: .*Failed to allocate memory.*)",
        r".*(aclrtMalloc failed: .*)",
        r"(rt\w*Malloc\w* execute failed, reason=\[driver error:out of memory\])",
    ),
    _full(
        ("VULKAN",),
        r"ggml_vulkan: (?:vk::\w+::\w+: )?(ErrorOutOfDeviceMemory)",
        r"ggml_vulkan: Requested buffer size exceeds .*(ErrorOutOfDeviceMemory)",
        rf"{VULKAN}.*(ErrorOutOfDeviceMemory|OutOfDeviceMemoryError)",
        ends=(EXIT, ABORT, FAULT),
    ),
    _full(
        ("METAL",),
        r"error: .*(kIO\w+ErrorOutOfMemory)",
        r"(?:error: )?(failed to allocate buffer, size = .*)",
        r"failed to allocate (Metal buffer\b.*)",
        ends=(EXIT, ABORT, FAULT),
    ),
    _full(
        ("SYCL",),
        r".*((?:UR|PI|ZE)_(?:RESULT_)?ERROR_OUT_OF_(?:DEVICE_MEMORY|RESOURCES))",
        r"(can't allocate \d+ Bytes of memory on device\S*)",
    ),
    _full(("OPENCL",), r".*(CL_OUT_OF_RESOURCES|CL_MEM_OBJECT_ALLOCATION_FAILURE)"),
    _lost(
        CUDA,
        r"(?:allocating [\d.]+ MiB on device \d+: )?"
        r"(?:cuda|hip|musa)Malloc\w* failed: (?!out of memory)(\S.*)",
    ),
    _lost(
        CUDA,
        rf"{GPU_ERROR}(no (?:CUDA|ROCm)-capable device is detected|unspecified launch failure|unknown error"
        r"|an illegal (?:memory access|instruction) was encountered|device not ready|the launch timed out.*"
        r"|uncorrectable \w+ error encountered|driver shutting down|misaligned address"
        r"|hardware stack error|initialization error|OS call failed.*|unspecified driver error"
        r"|all CUDA-capable devices are busy or unavailable|invalid device ordinal|context is destroyed"
        r"|CUBLAS_STATUS_(?:EXECUTION_FAILED|NOT_INITIALIZED)|an internal operation failed"
        r"|the function failed to launch on the GPU|the library was not initialized"
        r"|an access to GPU memory space failed|CUBLAS_STATUS_(?:MAPPING|INTERNAL)_ERROR"
        r"|Invalid access of peer GPU memory.*|invalid program counter|uncorrectable NVLink error.*"
        r"|unspecified hardware failure|exception during a kernel launch|MPS .*)",
        ends=(ABORT,),
    ),
    _lost(
        CUDA,
        r"(Memory access fault by GPU node-\d+)",
        r"(Memory (?:critical|exception) error by agent node-\d+)",
        r"(HW Exception by GPU node-\d+.*)",
        r".*rocm?device\.cpp.*(HSA_STATUS_ERROR\w*)",
        r"(rocBLAS error: Could not initialize Tensile host.*)",
        ends=(ABORT, FAULT),
        hint=AMD_HINT,
    ),
    _lost(
        ("VULKAN",),
        rf"{VULKAN}.*(DeviceLostError|ErrorDeviceLost|VK_ERROR_DEVICE_LOST)",
        rf"{VULKAN}vk::(?:PhysicalDevice::)?(create(?:Device|Instance): ErrorInitializationFailed)",
        r"ggml_vulkan: (device lost on \S+)",
        r"radv/amdgpu: (The CS has been cancelled because the context is lost)",
        ends=(EXIT, ABORT, FAULT),
        hint=AMD_HINT,
    ),
    _lost(("METAL",), r"error: .*(kIO\w+CommandBufferCallbackError\w+)", hint=MAC_HINT),
    _lost(("METAL",), r"(?:error: )?(backend is in error state)", hint=MAC_HINT),
    _lost(("SYCL",), r".*((?:UR|PI|ZE)_(?:RESULT_)?ERROR_DEVICE_(?:LOST|NOT_AVAILABLE|REQUIRES_RESET))"),
    _lost(
        ("SYCL",),
        rf"{THROWN}(No device of requested type available.*)",
        r".*((?:UR|PI)_(?:RESULT_)?ERROR_DEVICE_NOT_FOUND)",
        hint="check the card's driver: sycl-ls lists the devices; the user must be in the group render",
    ),
    _lost(
        ("RPC",),
        rf"{AT}(Remote RPC server crashed)",
        r"\S+ggml-rpc\.cpp:\d+: (GGML_ASSERT\(status\) failed)",
        rf"{AT}(Failed to connect to \S+)",
        rf"{AT}(RPC server .*)",
        on_mac=WORKER_ON_MAC,
    ),
    _lost(
        (ANY_BACKEND,),
        r".*(GPU has fallen off the bus)",
        r"(?:kernel: )?(?:\[[\d. ]+\] )?"
        r"((?:amdgpu \S+: .*ring \S+ timeout|NVRM: Xid|(?:i915|xe) \S+: .*GPU HANG).*)",
        r"(?:error loading model|failed to initialize the context): (failed to initialize \S+ backend)",
        ends=(EXIT, ABORT, FAULT),
    ),
    _lost(("METAL",), r"(?:error: ?)?(command buffer \d+ failed with status 5)", hint=MAC_HINT),
    _full(  # a device that is lost gives no memory, too: so these come last
        (ANY_BACKEND,),
        r"ggml_vulkan: (Device memory allocation of size \d+ failed)",
        r"failed to allocate ((?!CPU|Host|\w+_Host)[A-Z]\w* buffer of size \d+)",
        r"error loading model: unable to allocate ((?!CPU|Host|\w+_Host)[A-Z]\w* buffer)",
        ends=(EXIT, ABORT, FAULT),
    ),
)
"""Source: texts of ggml's backends at b11434. Reports: llama.cpp #13248 #14421 #15009 #15256 #18160 #20431
#25304 #25664 #26297 #27063 #27198 #29270 #7010 #8886 #22214 #23732, ollama #3765 #6139 #8851 #9247,
ROCm #4554, lemonade-sdk/llamacpp-rocm #101.
"""
HOST_HINT = "choose a smaller quant or context, or end other programs"
HOST_TEXTS = (
    CrashText(
        starts(r"error loading model: (mmap failed: Cannot allocate memory)"),
        "host_out_of_memory",
        "host memory ran out",
        permanent=False,
        hint=HOST_HINT + "; or a limit of the address space is too low (ulimit -v, vm.overcommit_memory)",
    ),
    CrashText(
        starts(
            r"(ggml_aligned_malloc: insufficient memory)",
            r"(insufficient memory) \(attempted",
            r"ggml_(?:malloc|calloc): (failed to allocate +[\d.]+ MB)",
            rf"{AT}(GGML_ASSERT\(ctx->mem_buffer != NULL\) failed)",
            rf"{THROWN}(std::bad_alloc)",
            r"failed to allocate ((?:CPU|Host|\w+_Host)\w* buffer of size \d+)",
            r"failed to allocate (buffer of size \d+)",
            r"error loading model: unable to allocate ((?:CPU|Host|\w+_Host)\w* buffer)",
            r"error loading model: (posix_memalign failed.*|failed to create ggml context)",
            r"(?:what\(\): +)?(Cannot allocate memory)$",
            rf"(?:{VULKAN}).*(ErrorOutOfHostMemory)",
            r".*((?:UR|PI)_(?:RESULT_)?ERROR_OUT_OF_HOST_MEMORY)",
            r"(can't allocate \d+ Bytes of memory on host)",
        ),
        "host_out_of_memory",
        "host memory ran out",
        permanent=False,
        hint=HOST_HINT,
    ),
)
