"""The texts of a build that does not suit the machine: cards, drivers, libraries. Pure: a table.

They stay as they are until another build or another driver comes, so nearly all of them are permanent.
"""

import re

from qwenctl.engine.usability import DRIVER_REFUSES, OTHER_BUILD, UNUSABLE_TEXTS
from qwenctl.supervise.crash_texts import (
    ABORT,
    EXIT,
    GPU_ERROR,
    LIBRARY_MISSING,
    VULKAN,
    WRONG_BUILD,
    CrashText,
    starts,
)

_GPU_BUILD_TEXTS = (
    CrashText(
        starts(
            r"ROCm error: (invalid device function|shared object initialization failed)",
            r".*(hipErrorNoBinaryForGpu: [^\"]*)",
            r".*No compatible code objects found for: (\w+)",
            r"rocBLAS error: Cannot read \S+TensileLibrary.*GPU arch ?: (\S+)",
        ),
        WRONG_BUILD,
        "this ROCm has no kernels for the card",
        permanent=True,
        hint="qwenctl engine install --backend vulkan, or a ROCm build for this card; "
        "HSA_OVERRIDE_GFX_VERSION names a card that it knows, HIP_VISIBLE_DEVICES leaves an integrated GPU "
        "out",
        backends=("ROCM", "CUDA"),
    ),
    CrashText(
        starts(
            r".*(failed to initialize the Metal library)",
            r".*(MTLLibraryErrorDomain.*)",
            r"error: Error Domain=(NSCocoaErrorDomain.*)",
        ),
        WRONG_BUILD,
        "its Metal library does not compile here",
        permanent=True,
        hint="update llama.cpp: qwenctl engine update, or brew upgrade llama.cpp",
        ends=(EXIT, ABORT),
        backends=("METAL",),
    ),
    CrashText(
        starts(
            rf"{VULKAN}(?:vk::)?(createInstance: Error(?:IncompatibleDriver|(?:Layer|Extension)NotPresent))",
            rf"{VULKAN}vk::PhysicalDevice::(createDevice: Error(?:Extension|Feature)NotPresent)",
            rf"{VULKAN}vk::Device::(create\w*(?:Pipelines?|ShaderModule)\w*: Error(?!OutOf|DeviceLost)\w+)",
        ),
        WRONG_BUILD,
        "the card's Vulkan driver does not suit it",
        permanent=True,
        hint="install or update the card's Vulkan driver (vulkaninfo shows it), or take another build: "
        "qwenctl engine install",
        ends=(EXIT, ABORT),
    ),
    CrashText(
        starts(
            r".*(The program was built for \d+ devices)",
            r".*((?:CL|(?:UR|PI|ZE)_(?:RESULT_)?ERROR)_(?:BUILD_PROGRAM|PROGRAM_BUILD|PROGRAM_LINK|MODULE_BUILD)_FAILURE)",
        ),
        WRONG_BUILD,
        "the card's driver cannot compile its kernels",
        permanent=True,
        hint="update the card's driver (Level Zero, compute runtime), or take another build: qwenctl engine "
        "install --backend vulkan",
        ends=(EXIT, ABORT),
        backends=("SYCL", "OPENCL"),
    ),
)
BUILD_TEXTS = (
    _GPU_BUILD_TEXTS
    + tuple(
        CrashText(
            re.compile(f".*?(?:{sign.text.pattern})"),
            LIBRARY_MISSING if sign.cause == LIBRARY_MISSING else WRONG_BUILD,
            sign.summary,
            permanent=True,
            hint=sign.hint,
            ends=(EXIT, ABORT),
        )
        for sign in UNUSABLE_TEXTS
        if sign.cause != DRIVER_REFUSES  # of a server that runs, the same texts say that memory ran out
    )
    + (
        CrashText(
            starts(
                rf"{GPU_ERROR}(device kernel image is invalid"
                r"|the requested functionality is not supported"
                r"|the requested feature is absent from the device architecture"
                r"|CUBLAS_STATUS_ARCH_MISMATCH|CUBLAS_STATUS_NOT_SUPPORTED|named symbol not found)",
                r".*(HSA_STATUS_ERROR_INVALID_ISA\w*)",
                r"(no backends are loaded)",
                r"(?:error loading model: )?(?:make_cpu_buft_list: |\w+: )?(no CPU backend found)",
            ),
            WRONG_BUILD,
            "this build does not suit the machine",
            permanent=True,
            hint=OTHER_BUILD,
            ends=(EXIT, ABORT),
        ),
        CrashText(
            starts(
                r"(?:.*)(system has unsupported display driver / cuda driver combination)",
                r"(?:.*)(forward compatibility was attempted on non supported HW)",
                r"(?:.*)(API call is not supported in the installed CUDA driver)",
                r"(?:.*)(CUDA driver is a stub library)",
            ),
            WRONG_BUILD,
            "driver and build do not suit each other",
            permanent=True,
            hint="reboot after an update of the NVIDIA driver; or update it; or qwenctl engine install takes "
            "a build for this driver",
            ends=(EXIT, ABORT),
        ),
        CrashText(
            starts(r".*failed to initialize CUDA: (system not yet initialized)"),
            "gpu_lost",
            "the NVIDIA fabric is not ready",
            permanent=False,
            hint="start nvidia-fabricmanager, of the driver's version: systemctl status nvidia-fabricmanager",
            ends=(EXIT, ABORT),
        ),
    )
)
"""The texts of a build that does not suit this machine: those of engine/usability.py, and more.

Reports: llama.cpp #11493 #14559 #8119 #27412 #1912 #13059 #4395, xorbitsai/inference #1222, ROCm #2061.
"""
