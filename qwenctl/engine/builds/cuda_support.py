"""Whether an official CUDA build runs on an NVIDIA GPU with its driver. Pure: data in, data out.

Three things must agree: the driver's major version of CUDA, the GPU's compute capability, and whether the
build has machine code for it. For some GPUs the builds have only PTX, which the driver compiles at the first
start: a driver that is older than the build's CUDA refuses it, although the major version is the same.
Source: CUDA's headers, ``cudaErrorUnsupportedPtxVersion``; measured on an H200 with driver 580.159.04 (CUDA
13.0): PTX 9.0 loads, 9.1 to 9.4 are answered with CUDA_ERROR_UNSUPPORTED_PTX_VERSION.
"""

from typing import Literal, NamedTuple

from qwenctl.engine.builds.engine_host import HostGpu, Version, shown, version_of

Fitness = Literal["yes", "unsure", "no"]


class CudaVerdict(NamedTuple):
    """Whether a CUDA build runs, and why."""

    fits: Fitness
    reason: str


MINIMUM_DRIVERS = {11: 450, 12: 525, 13: 580}
"""Major version of CUDA -> the oldest driver. Source: NVIDIA, "CUDA Compatibility", table 1."""
DRIVERS: tuple[tuple[int, Version], ...] = (
    (525, (12, 0)),
    (530, (12, 1)),
    (535, (12, 2)),
    (545, (12, 3)),
    (550, (12, 4)),
    (555, (12, 5)),
    (560, (12, 6)),
    (565, (12, 7)),
    (570, (12, 8)),
    (575, (12, 9)),
    (580, (13, 0)),
    (590, (13, 1)),
    (595, (13, 2)),
    (610, (13, 3)),
    (615, (13, 4)),
)
"""Branch of the driver -> the newest CUDA it knows; used only where the driver was not asked itself.

Source: NVIDIA, CUDA release notes, "CUDA Toolkit and Corresponding Driver Versions" (12.0 to 13.3); 615 with
13.4 is one machine's report.
"""
OLDEST: dict[int, Version] = {11: (3, 5), 12: (5, 0), 13: (7, 5)}
"""Major version of CUDA -> the oldest compute capability.

Source: CUDA 13.0 release notes (Maxwell, Pascal and Volta were dropped); for CUDA 12 llama.cpp's
ggml/src/ggml-cuda/CMakeLists.txt (Maxwell is the lowest).
"""
MACHINE_CODE: tuple[tuple[Version, Version, bool], ...] = (
    ((11, 6), (8, 6), False),
    ((11, 8), (8, 9), False),
    ((12, 8), (12, 0), True),
    ((12, 9), (12, 1), True),
)
"""From which CUDA on a build has machine code for which capability, and whether for that one alone.

Source: llama.cpp b11434, ggml/src/ggml-cuda/CMakeLists.txt (``86-real 89-real 120a-real 121a-real``), which
the release builds leave as it is. All others are ``-virtual``: PTX alone.
"""
CAPABILITIES: tuple[tuple[str, Version], ...] = (
    ("GB10", (12, 1)),
    ("GB200", (10, 0)),
    ("B200", (10, 0)),
    ("GH200", (9, 0)),
    ("H200", (9, 0)),
    ("H100", (9, 0)),
    ("A100", (8, 0)),
    ("A30", (8, 0)),
    ("Orin", (8, 7)),
    ("Thor", (11, 0)),
    ("Blackwell", (12, 0)),
    ("RTX 50", (12, 0)),
    ("RTX 40", (8, 9)),
    ("L40", (8, 9)),
    ("L4", (8, 9)),
    ("Ada", (8, 9)),
    ("RTX 30", (8, 6)),
    ("RTX A", (8, 6)),
    ("A40", (8, 6)),
    ("A10", (8, 6)),
    ("RTX 20", (7, 5)),
    ("GTX 16", (7, 5)),
    ("T4", (7, 5)),
    ("V100", (7, 0)),
    ("GTX 10", (6, 1)),
    ("P40", (6, 1)),
    ("P100", (6, 0)),
    ("GTX 9", (5, 2)),
)
"""A part of a GPU's name -> its compute capability, for machine files that have none. The first match counts.

Source: NVIDIA, "CUDA GPU Compute Capability".
"""


def cuda_verdict(version: Version | None, gpu: HostGpu) -> CudaVerdict:
    """Say whether a build for a CUDA version runs on a GPU.

    In this order: 1. No driver. 2. A driver of an older major version. 3. A GPU that this CUDA dropped. 4. No
    machine code, and a driver too old for its PTX.
    """
    label = f"CUDA {shown(version)}" if version else "CUDA"
    if gpu.driver is None and gpu.driver_cuda is None:
        return CudaVerdict("unsure", f"the driver of {gpu.name} is not known")
    if version is None:
        return CudaVerdict("unsure", "its name does not say which CUDA it needs")
    knows, driver = gpu.driver_cuda or _cuda_of(gpu.driver), gpu.driver or "of unknown version"
    if knows is not None and knows[0] < version[0]:
        oldest = MINIMUM_DRIVERS.get(version[0])
        need = f"driver {oldest} or newer" if oldest else "a newer driver"
        return CudaVerdict("no", f"{label} needs {need}; the driver {driver} knows CUDA {shown(knows)}")
    capability = version_of(gpu.architecture) or _capability_of(gpu.name)
    if capability is None:
        return CudaVerdict("unsure", f"the compute capability of {gpu.name} is not known")
    oldest_gpu = OLDEST.get(version[0])
    if oldest_gpu is not None and capability < oldest_gpu:
        cause = f"CUDA {version[0]} has no code for compute capability {shown(capability)}"
        return CudaVerdict("no", f"{cause} ({gpu.name}); the oldest is {shown(oldest_gpu)}")
    if _has_machine_code(version, capability) and not gpu.tegra:
        return CudaVerdict("yes", f"{label} has machine code for {gpu.name} ({shown(capability)})")
    if knows is None:
        return CudaVerdict("unsure", f"it is not known which CUDA the driver {driver} knows")
    if knows < version[:2]:
        cause = f"{label} has only PTX for compute capability {shown(capability)}, which the driver compiles"
        return CudaVerdict("no", f"{cause}; the driver {driver} knows CUDA {shown(knows)}{_newer(version)}")
    if gpu.tegra:
        return CudaVerdict("unsure", f"the build is for servers (SBSA); on {gpu.name} JetPack 7.2 may run it")
    return CudaVerdict("yes", f"{label}; the driver compiles its PTX for {gpu.name} at the first start")


def _has_machine_code(version: Version, capability: Version) -> bool:
    """Whether a build has machine code for a GPU: for its capability, or a lower minor one of its major."""
    return any(
        version >= since and (capability == code if only else code[0] == capability[0] and code <= capability)
        for since, code, only in MACHINE_CODE
    )


def _newer(version: Version) -> str:
    branch = next((branch for branch, cuda in DRIVERS if cuda >= version[:2]), None)
    return f", and branch {branch} would do" if branch else ""


def _cuda_of(driver: str | None) -> Version | None:
    branch = version_of(driver)
    if branch is None:
        return None
    return next((cuda for oldest, cuda in reversed(DRIVERS) if branch[0] >= oldest), (11, 0))


def _capability_of(name: str) -> Version | None:
    return next((capability for part, capability in CAPABILITIES if part.lower() in name.lower()), None)
