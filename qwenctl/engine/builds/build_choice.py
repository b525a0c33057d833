"""Choose the build of a release that suits a machine, and say why each other one does not. Pure: no I/O.

In this order: 1. What cannot run here at all (system, processor, C library) is out. 2. A backend needs a GPU
of its kind, and what that GPU needs beside it. 3. Of what is left the best backend for the GPU counts, then
the newest version. 4. The processor alone is chosen only where no GPU would lie idle for it.

What is not known here is ``unsure``: it may be chosen, and the smoke test decides.
"""

from dataclasses import dataclass
from typing import Literal

from qwenctl.engine.builds.build_names import Build, ReleaseBuilds
from qwenctl.engine.builds.cuda_support import Fitness, cuda_verdict
from qwenctl.engine.builds.engine_host import EngineHost, HostGpu, Version, shown

BuildRank = Literal["chosen", "possible", "unsure", "no"]
ORDER = ("metal", "cuda", "rocm", "vulkan", "sycl", "cpu")
"""Backends, the best first, where several can use a GPU.

Vulkan stands before SYCL: on Arc it was 2 to 3 times as fast in llama.cpp #26010 (20.1 and 7.0 tokens/s) and
twice in intel/ipex-llm #12991, and SYCL needs oneAPI's libraries, which the build does not bring.
"""
UBUNTU: dict[str, tuple[Version, Version]] = {
    "22.04": ((2, 34), (2, 35)),
    "24.04": ((2, 38), (2, 39)),
}
"""Ubuntu -> the glibc its programs are known to need, and the one it has itself.

Source: its package libc6; __libc_start_main is of 2.34; users of Debian 12 see "GLIBC_2.38 not found".
"""
MACOS: Version = (13, 3)
"""The oldest macOS. Source: CMAKE_OSX_DEPLOYMENT_TARGET in llama.cpp's release.yml (b11434)."""
_RDNA = (
    "gfx1010 gfx1011 gfx1012 gfx1030 gfx1031 gfx1032 gfx1033 gfx1034 gfx1035 gfx1036 gfx1100 gfx1101 gfx1102 "
    "gfx1103 gfx1150 gfx1151 gfx1152 gfx1200 gfx1201"
)
ROCM_TARGETS: dict[Version, frozenset[str]] = {
    (10, 0): frozenset(f"gfx908 gfx90a gfx942 gfx950 {_RDNA}".split()),
    (7, 11): frozenset(
        "gfx906 gfx908 gfx90a gfx942 gfx950 gfx1100 gfx1101 gfx1102 gfx1150 gfx1151 gfx1200 gfx1201".split()
    ),
    (7, 2): frozenset(
        "gfx908 gfx90a gfx942 gfx1030 gfx1100 gfx1101 gfx1102 gfx1150 gfx1151 gfx1200 gfx1201".split()
    ),
}
"""Version in the name -> the GPUs it has code for. Source: ``gpu_targets`` in llama.cpp's release.yml."""
WAY_OUT = "pip install 'qwenctl[engine]' brings one that runs here (glibc 2.17), or compile llama.cpp"
WAY_OUT_CARD = (
    "compile llama.cpp for {}, or run on the processor on purpose: pip install 'qwenctl[engine]', then "
    "qwenctl up --cpu"
)


@dataclass(frozen=True, slots=True)
class RankedBuild:
    """A build, whether it may be used here, and why."""

    build: Build
    rank: BuildRank
    reason: str


@dataclass(frozen=True, slots=True)
class BuildChoice:
    """Every build of a release, the best first. ``why_none`` says what to do where none is chosen."""

    ranked: tuple[RankedBuild, ...]
    why_none: str | None = None

    @property
    def chosen(self) -> Build | None:
        """The build to install."""
        return next((each.build for each in self.ranked if each.rank == "chosen"), None)

    @property
    def reason(self) -> str | None:
        """Why that one."""
        return next((each.reason for each in self.ranked if each.rank == "chosen"), None)


def choose_build(builds: ReleaseBuilds, host: EngineHost, backend: str | None = None) -> BuildChoice:
    """Return the builds with their verdicts. ``backend`` (``cuda``, ``cuda-12``, ``sycl-fp16``) forces one.

    A forced kind is chosen whatever speaks against it, as long as it is for this system and processor; the
    reason then says what does.
    """
    judged = [(build, *_verdict(build, host)) for build in builds.known]
    judged.sort(key=_place)
    worth = tuple(gpu for gpu in host.gpus if gpu.worth)
    chosen: Build | None = None
    for build, fits, _reason in judged:
        if backend is not None:
            fitting = is_kind(build, backend) and (build.os, build.arch) == (host.os, host.arch)
        else:
            fitting = fits != "no" and not (
                build.backend == "cpu" and worth and _has_gpu_builds(builds, host)
            )
        if fitting:
            chosen = build
            break
    ranked = tuple(_ranked(build, fits, reason, chosen, worth) for build, fits, reason in judged)
    first = sorted(ranked, key=lambda each: each.rank != "chosen")
    return BuildChoice(tuple(first), None if chosen else _why_none(host, ranked, backend))


def is_kind(build: Build, backend: str) -> bool:
    """Whether ``backend`` means this build: ``cuda`` any, ``cuda-12`` any of CUDA 12, ``cuda-12.8`` that."""
    wanted, kind = backend.lower(), build.kind
    return kind == wanted or kind.startswith((f"{wanted}-", f"{wanted}."))


def _ranked(
    build: Build, fits: Fitness, reason: str, chosen: Build | None, worth: tuple[HostGpu, ...]
) -> RankedBuild:
    if build is chosen:
        if build.backend == "cpu" and worth:
            reason = f"{reason}; {worth[0].name} lies idle, and qwenctl up needs --cpu"
        return RankedBuild(build, "chosen", reason)
    if build.backend == "cpu" and fits != "no" and worth:
        reason = f"would leave {worth[0].name} idle; --backend cpu takes it on purpose"
    return RankedBuild(build, "possible" if fits == "yes" else fits, reason)


def _place(judged: tuple[Build, Fitness, str]) -> tuple[object, ...]:
    build, fits, _reason = judged
    newest = tuple(-part for part in build.version or ())
    backend = ORDER.index(build.backend)
    return (fits == "no", backend, fits == "unsure", newest, build.variant == "fp16", build.asset.name)


def _verdict(build: Build, host: EngineHost) -> tuple[Fitness, str]:
    if build.os != host.os:
        return "no", f"it is for {'macOS' if build.os == 'darwin' else 'Linux'}"
    if build.arch != host.arch:
        return "no", f"it is for {build.arch} processors"
    fits, reason = _backend_verdict(build, host)
    base, ground = _base(build, host)
    if fits == "no" or base == "yes":
        return fits, reason
    return base, ground if base == "no" else f"{reason}; {ground}"


def ubuntu_of(build: Build) -> str:
    """Return the Ubuntu that a Linux build was made on.

    Source: ``runs-on`` and ``container`` in llama.cpp's release.yml: of b11434, for ROCm 7 of earlier ones.
    """
    if build.arch == "arm64" or build.backend in ("cuda", "sycl"):
        return "24.04"
    return "24.04" if build.backend == "rocm" and (build.version or (10,)) >= (10,) else "22.04"


def _base(build: Build, host: EngineHost) -> tuple[Fitness, str]:
    """Say whether the system's own library suits the build."""
    if build.os == "darwin":
        if host.macos is None:
            return "unsure", "the version of macOS is not known"
        old = host.macos < MACOS
        return ("no", f"it needs macOS {shown(MACOS)}, this is {shown(host.macos)}") if old else ("yes", "")
    ubuntu = ubuntu_of(build)
    needed, own = UBUNTU[ubuntu]
    made = f"made on Ubuntu {ubuntu} (glibc {shown(own)})"
    if host.musl:
        return "no", f"{made}; this system has musl"
    if host.glibc is None:
        return "unsure", f"{made}; the glibc of this system is not known"
    if host.glibc < needed:
        return "no", f"{made}; this system has glibc {shown(host.glibc)}"
    if host.glibc < own:
        return "unsure", f"{made}; glibc {shown(host.glibc)} may be too old"
    return "yes", ""


def _backend_verdict(build: Build, host: EngineHost) -> tuple[Fitness, str]:
    match build.backend:
        case "cuda":
            return _cuda(build, host)
        case "rocm":
            return _rocm(build, host)
        case "vulkan":
            return _vulkan(host)
        case "sycl":
            return _sycl(host)
        case "metal":
            return "yes", "Metal is part of macOS"
        case _:
            return "yes", "the processor alone" + ("; no GPU is known here" if not host.gpus else "")


def _cuda(build: Build, host: EngineHost) -> tuple[Fitness, str]:
    gpus = host.of("nvidia")
    if not gpus:
        return "no", "there is no NVIDIA GPU"
    if build.runtime is None:
        return "no", "its runtime libraries (cudart) are not in this release, or not yet"
    verdicts = [(gpu, cuda_verdict(build.version, gpu)) for gpu in gpus]
    best = next((each for wanted in ("yes", "unsure") for _, each in verdicts if each.fits == wanted), None)
    if best is None:
        return verdicts[0][1]
    if idle := [gpu.name for gpu, each in verdicts if each.fits == "no"]:
        return "unsure", f"{best.reason}, but nothing for {', '.join(idle)}"
    return best


def _rocm(build: Build, host: EngineHost) -> tuple[Fitness, str]:
    gpus = host.of("amd")
    if not gpus:
        return "no", "there is no AMD GPU"
    version = build.version or ()
    targets = ROCM_TARGETS.get(version[:2])
    gpu = next((each for each in gpus if targets is None or each.architecture in targets), None)
    if gpu is None:
        named = next((each.architecture for each in gpus if each.architecture), None)
        if named is None:
            return "no", f"the target (gfx) of {gpus[0].name} is not known"
        return "no", f"it has no code for {named} ({gpus[0].name})"
    if host.rocm is None:
        return "no", f"it needs the libraries of ROCm {shown(version)}, which are not found here"
    if host.rocm[0] != version[0]:
        return "no", f"it needs the libraries of ROCm {shown(version)}, this system has {shown(host.rocm)}"
    return (
        "yes" if targets else "unsure"
    ), f"ROCm {shown(version)} has code for {gpu.architecture or gpu.name}"


def _vulkan(host: EngineHost) -> tuple[Fitness, str]:
    if not host.gpus:
        return "no", "there is no GPU"
    if host.wsl:
        return "no", "inside WSL Vulkan goes through Direct3D (dzn), which llama.cpp is not made for"
    name = host.gpus[0].name
    if host.vulkan is None:
        return "unsure", f"Vulkan may use {name}; whether its loader is here is not known"
    if not host.vulkan:
        packages = "libvulkan1" if host.of("nvidia") else "libvulkan1 and mesa-vulkan-drivers"
        inside = ", inside the container" if host.container else ""
        return "no", f"Vulkan's loader or its driver is missing: install {packages}{inside}"
    return "yes", f"Vulkan can use {name}"


def _sycl(host: EngineHost) -> tuple[Fitness, str]:
    if not host.of("intel"):
        return "no", "there is no Intel GPU"
    if host.oneapi is None:
        return "no", "it needs the libraries of Intel oneAPI, which are not found here; Vulkan needs none"
    return "unsure", "oneAPI is here; on Arc Vulkan was mostly faster"


def _has_gpu_builds(builds: ReleaseBuilds, host: EngineHost) -> bool:
    """Whether the release has any build for a GPU on this system: else the processor is all there is."""
    return any(
        each.os == host.os and each.arch == host.arch and each.backend != "cpu" for each in builds.known
    )


def _why_none(host: EngineHost, ranked: tuple[RankedBuild, ...], backend: str | None) -> str:
    """Say why no build is chosen, and what to do."""
    mine = [each for each in ranked if (each.build.os, each.build.arch) == (host.os, host.arch)]
    here = f"{host.os} on {host.arch}"
    if backend is not None:
        kinds = ", ".join(dict.fromkeys(each.build.kind for each in mine)) or "none"
        return f"this release has no build {backend} for {here}; it has {kinds}"
    if host.musl:
        return "no build runs with musl: compile llama.cpp, and set [server] binary"
    if not mine:
        return f"this release has no build for {here}"
    card = next((gpu.name for gpu in host.gpus if gpu.worth), None)
    if all(each.rank == "no" for each in mine):
        if host.os == "linux" and card is not None:
            return WAY_OUT_CARD.format(card)
        return WAY_OUT if host.os == "linux" else f"{mine[0].reason}: update macOS, or brew install llama.cpp"
    likely = next(
        (each.reason for each in mine if each.rank == "no" and "there is no" not in each.reason), None
    )
    cause = f": {likely}" if likely else ""
    return f"no build can use {card}{cause}; --backend cpu runs on the processor on purpose"
