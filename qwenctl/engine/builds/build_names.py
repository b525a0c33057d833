"""Which build of llama.cpp a file of a release is, by its name. Pure: data in, data out.

Names as llama.cpp's .github/workflows/release.yml makes them (b11434), and as earlier releases had them:

    llama-b11476-bin-ubuntu-x64.tar.gz                  the processor
    llama-b11476-bin-ubuntu-cuda-13.4-x64.tar.gz        CUDA 13.4, with its own
    cudart-llama-b11476-bin-ubuntu-cuda-13.4-x64.tar.gz runtime libraries in a file beside it
    llama-b11476-bin-ubuntu-sycl-fp16-x64.tar.gz        a variant
    llama-b5000-bin-ubuntu-x64.zip                      until the end of 2025

Names are read, never made: a file that a release does not list does not exist.
"""

import re
from dataclasses import dataclass
from typing import Literal

from qwenctl.engine.builds.releases import Release, ReleaseAsset

BuildSystem = Literal["linux", "darwin"]
BuildArch = Literal["x86_64", "arm64"]
SYSTEMS: dict[str, BuildSystem] = {"ubuntu": "linux", "macos": "darwin"}
ARCHITECTURES: dict[str, BuildArch] = {"x64": "x86_64", "arm64": "arm64"}
BACKENDS = ("cpu", "metal", "cuda", "rocm", "vulkan", "sycl")
"""Backends whose devices qwenctl can plan for."""
VARIANTS = {"sycl": ("fp16", "fp32")}
NAME = re.compile(r"(?P<runtime>cudart-)?llama-(?:(?P<tag>[A-Za-z0-9.]+)-)?bin-(?P<rest>.+)\.(?:tar\.gz|zip)")
VERSION = re.compile(r"\d{1,4}(?:\.\d{1,4}){0,3}")


@dataclass(frozen=True, slots=True)
class Build:
    """One build of a release. ``runtime`` is the file of libraries that belongs beside it."""

    tag: str
    os: BuildSystem
    arch: BuildArch
    backend: str
    asset: ReleaseAsset
    version: tuple[int, ...] | None = None
    variant: str | None = None
    runtime: ReleaseAsset | None = None

    @property
    def kind(self) -> str:
        """Backend, version and variant: ``cuda-13.4``, ``sycl-fp16``, ``cpu``."""
        version = ".".join(map(str, self.version)) if self.version else None
        return "-".join(part for part in (self.backend, version, self.variant) if part)

    @property
    def name(self) -> str:
        """What it is called once it is installed: ``b11476-cuda-13.4``."""
        return f"{self.tag}-{self.kind}"

    @property
    def assets(self) -> tuple[ReleaseAsset, ...]:
        """The files to download."""
        return (self.asset,) if self.runtime is None else (self.asset, self.runtime)

    @property
    def bytes(self) -> int:
        """Size of the files to download."""
        return sum(asset.bytes for asset in self.assets)


@dataclass(frozen=True, slots=True)
class UnknownBuild:
    """A build for a system and processor that qwenctl runs on, and why qwenctl does not use it."""

    asset: ReleaseAsset
    os: BuildSystem
    arch: BuildArch | None
    why: str


@dataclass(frozen=True, slots=True)
class ReleaseBuilds:
    """The builds of a release for Linux and macOS. Those for other systems are left out."""

    known: tuple[Build, ...]
    unknown: tuple[UnknownBuild, ...]


def builds_of(release: Release) -> ReleaseBuilds:
    """Return the builds of a release, each CUDA build joined with its runtime libraries."""
    found = [_parse(asset, release.tag) for asset in release.assets]
    runtimes = {
        (one.os, one.arch, one.version): one.asset
        for one in found
        if isinstance(one, Build) and one.asset.name.startswith("cudart-")
    }
    known = tuple(
        _with_runtime(one, runtimes.get((one.os, one.arch, one.version)))
        for one in found
        if isinstance(one, Build) and not one.asset.name.startswith("cudart-")
    )
    return ReleaseBuilds(known, tuple(one for one in found if isinstance(one, UnknownBuild)))


def _with_runtime(build: Build, runtime: ReleaseAsset | None) -> Build:
    if build.backend != "cuda" or runtime is None:
        return build
    return Build(
        build.tag, build.os, build.arch, build.backend, build.asset, build.version, build.variant, runtime
    )


def _parse(asset: ReleaseAsset, tag: str) -> Build | UnknownBuild | None:
    """Return what a file is; None for a file of another system or processor, or no build at all."""
    match = NAME.fullmatch(asset.name)
    words = match["rest"].split("-") if match else []
    system = SYSTEMS.get(words[0]) if words else None
    if match is None or system is None:
        return None
    arch = ARCHITECTURES.get(words[-1])
    if arch is None:
        named = next((ARCHITECTURES[word] for word in words if word in ARCHITECTURES), None)
        return None if named is None else UnknownBuild(asset, system, named, _unknown(words[-1]))
    middle = words[1:-1]
    if not middle:
        return Build(tag, system, arch, "metal" if (system, arch) == ("darwin", "arm64") else "cpu", asset)
    backend, rest = middle[0], middle[1:]
    version = variant = None
    if rest and VERSION.fullmatch(rest[0]):
        version = tuple(int(part) for part in rest.pop(0).split("."))
    if rest and rest[0] in VARIANTS.get(backend, ()):
        variant = rest.pop(0)
    if backend not in BACKENDS or rest:
        return UnknownBuild(asset, system, arch, _unknown("-".join(rest) if backend in BACKENDS else backend))
    return Build(tag, system, arch, backend, asset, version, variant)


def _unknown(word: str) -> str:
    return f"{word} is not known to qwenctl"
