"""From the releases of llama.cpp to an installed engine: which build, its files, and the installation.

``find_offer`` says what would be installed and costs at most one request; ``install_offer`` does it. Both
block, so that a command and the daemon's planning thread can call them; ``stopped`` ends them soon.
"""

import asyncio
import difflib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from qwenctl.engine.builds.build_choice import ORDER, BuildChoice, choose_build
from qwenctl.engine.builds.build_names import BACKENDS, Build, builds_of
from qwenctl.engine.builds.engine_host import EngineHost
from qwenctl.engine.builds.installation import EngineArchive, install, prover
from qwenctl.engine.builds.installed_engines import InstalledEngine
from qwenctl.engine.builds.release_api import Listing, ReleaseApi
from qwenctl.engine.builds.release_download import check_file, download, expected_digest
from qwenctl.engine.builds.releases import BUILD_TAG, Release, ReleaseAsset
from qwenctl.engine.flags import Option
from qwenctl.engine.used_flags import ALWAYS, needed
from qwenctl.errors import FetchError, NoServerError, QwenctlError, SettingsError
from qwenctl.fetch.clock import FetchEnvironment, RetryPolicy
from qwenctl.settings.types import Settings

Result = TypeVar("Result")
PATIENCE = FetchEnvironment(metadata_policy=RetryPolicy(attempts=3, server_longest_s=10.0, connect_s=10.0))
"""Somebody waits for the listing: three tries, soon after each other."""
BROUGHT = "file"
"""Tag and backend of an engine whose archive a person brought, where its name tells none."""
SHORTEST_RATE_S = 0.1
"""The time that a rate is of, at least."""


@dataclass(frozen=True, slots=True)
class EngineSource:
    """Where engines come from and go to, and what they must know.

    ``root`` is the store, ``cache`` keeps answers and partial files; ``needed``: options of the settings.
    """

    releases: str
    root: Path
    cache: Path
    offline: bool = False
    environment: FetchEnvironment = PATIENCE
    needed: tuple[Option, ...] = ALWAYS

    @property
    def downloads(self) -> Path:
        """Where the files of releases lie until they are installed."""
        return self.cache / "engines"


@dataclass(frozen=True, slots=True)
class EngineOffer:
    """What a release offers to a machine. ``note`` says that the listing is an earlier one, and why."""

    release: Release
    choice: BuildChoice
    note: str | None = None

    @property
    def build(self) -> Build:
        """The build to install.

        Raises:
            NoServerError: none suits; the message says why.
        """
        if (build := self.choice.chosen) is None:
            raise NoServerError(
                f"cannot choose a build of llama.cpp {self.release.tag}: {self.choice.why_none}",
                hint="qwenctl engine list says why each build does not suit this machine",
            )
        return build

    @property
    def text(self) -> str:
        """What it is in a question: ``llama.cpp b11500 for CUDA 12.8 (766 MB)``."""
        build = self.build
        return f"llama.cpp {build.tag} for {build.kind} ({build.bytes / 10**6:.0f} MB)"


@dataclass(frozen=True, slots=True)
class InstallProgress:
    """What is told on the way. Each may raise to end the installation; nothing of it is left then."""

    on_step: Callable[[str], None] = lambda _text: None
    on_bytes: Callable[[str, int, int], None] = lambda _name, _done, _total: None
    stopped: Callable[[], bool] = lambda: False


def with_rate(told: Callable[[str, int, int, float], None]) -> Callable[[str, int, int], None]:
    """Return an ``on_bytes`` that tells the bytes a second since now, too."""
    began = time.monotonic()
    return lambda name, done, total: told(
        name, done, total, done / max(time.monotonic() - began, SHORTEST_RATE_S)
    )


def source_of(settings: Settings, root: Path, cache: Path) -> EngineSource:
    """Return where engines come from and go to, as the settings say."""
    offline = settings.fetch.offline
    return EngineSource(settings.server.releases, root, cache, offline, needed=needed(settings))


def find_offer(
    source: EngineSource, host: EngineHost, *, version: str | None = None, backend: str | None = None
) -> EngineOffer:
    """Return the newest release that has the best kind of build for this machine, or the one of ``version``.

    Where no release has one, the newest is returned, whose choice says why.

    Raises:
        FetchError: the listing cannot be had.
        QwenctlError: the backend is none, or no release has files.
    """
    if backend is not None:
        check_backend(backend)
    listing = _run(_listing(source, version))
    offers = [
        EngineOffer(release, choose_build(builds, host, backend), listing.note)
        for release in listing.releases
        if (builds := builds_of(release)).known
    ]
    if not offers:
        raise FetchError(
            f"cannot choose a build: {version or 'none of the newest'} has no files for Linux or macOS",
            hint="qwenctl engine install VERSION takes another one",
        )
    return min(offers, key=_place)


def _place(offer: EngineOffer) -> int:
    """Return how good the offered kind is: of the newest release some files may not be there yet."""
    chosen = offer.choice.chosen
    return len(ORDER) if chosen is None else ORDER.index(chosen.backend)


def is_newer(tag: str, than: str) -> bool:
    """Whether a build is newer than another; any other one counts as newer where the tags are no numbers."""
    numbers = [int(each[1:]) if BUILD_TAG.fullmatch(each) else None for each in (tag, than)]
    if numbers[0] is None or numbers[1] is None:
        return tag != than
    return numbers[0] > numbers[1]


def install_offer(
    source: EngineSource, offer: EngineOffer, progress: InstallProgress, *, sha256: str | None = None
) -> InstalledEngine:
    """Download the chosen build, install and prove it. It is not in use yet.

    Raises:
        FetchError: it cannot be had, or its digest is another one.
        NoServerError: it does not work here; nothing of it is left.
        QwenctlError: the store or its lock is at fault.
    """
    build = offer.build
    if source.offline:
        names = [f"{asset.url} (sha256 {asset.sha256 or 'unknown'})" for asset in build.assets]
        raise FetchError(
            f"cannot download llama.cpp {build.tag}: qwenctl is offline",
            hint=f"bring these files: {', '.join(names)}; then: {_from(build)}",
        )
    for asset in build.assets:
        expected_digest(asset, sha256 if asset is build.asset else None)
    files: list[Path] = []
    for asset in build.assets:
        given = sha256 if asset is build.asset else None

        def on_bytes(name: str, done: int, total: int) -> None:
            if progress.stopped():
                raise StoppedError(f"cannot install llama.cpp {build.tag}: it was stopped")
            progress.on_bytes(name, done, total)

        done = _run(download(asset, source.downloads, source.environment, on_bytes, sha256=given))
        files.append(done.path)
    digest = expected_digest(build.asset, sha256)
    archive = EngineArchive(build.name, build.tag, build.backend, build.asset.name, tuple(files), digest)
    prove = prover(source.cache, build.backend, source.needed, progress.stopped)
    return install(source.root, archive, prove, progress.on_step, source.environment.margin_bytes)


class StoppedError(QwenctlError):
    """Nobody waits for the installation any more."""


@dataclass(frozen=True, slots=True)
class BroughtFile:
    """An archive that a person brought. ``vouched`` says whose word its digest is, None if nobody's."""

    path: Path
    sha256: str
    vouched: str | None
    build: Build | None = None


def check_brought(source: EngineSource, path: Path, sha256: str | None) -> BroughtFile:
    """Compare a file with ``--sha256``, else with the listing that was read last. Asks no network.

    Raises:
        FetchError: it cannot be read, or is another one than it should be.
    """
    build, expected = _listed(source, path.name)
    found = _run(check_file(path, sha256))
    if sha256 is not None:
        return BroughtFile(path, found, "--sha256", build)
    if expected is not None and found != expected:
        raise FetchError(
            f"cannot verify {path}: its sha256 is {found}, the listing says {expected}",
            hint="fetch it again; qwenctl leaves the file as it is",
        )
    return BroughtFile(path, found, "the listing of the releases" if expected else None, build)


def install_brought(
    source: EngineSource, brought: tuple[BroughtFile, ...], host: EngineHost, progress: InstallProgress
) -> InstalledEngine:
    """Install what a person brought: the archive, and for CUDA that of the runtime libraries.

    Raises:
        NoServerError: it does not work here; nothing of it is left.
        QwenctlError: the archive, the store or its lock is at fault.
    """
    first = brought[0]
    build = first.build or named_build(first.path.name, host)
    tag, backend = (build.tag, build.backend) if build else (BROUGHT, BROUGHT)
    name = build.name if build else f"{BROUGHT}-{first.sha256[:8]}"
    files = tuple(each.path for each in brought)
    archive = EngineArchive(name, tag, backend, first.path.name, files, first.sha256, keep=True)
    prove = prover(source.cache, backend, source.needed, progress.stopped)
    return install(source.root, archive, prove, progress.on_step, source.environment.margin_bytes)


def named_build(name: str, host: EngineHost) -> Build | None:
    """Return which build a file is, by its name alone; None if the name tells nothing for this machine."""
    tag = name.removeprefix("llama-").partition("-bin-")[0]
    known = builds_of(Release(tag, (ReleaseAsset(name, 1, "", None),))).known
    return next((each for each in known if (each.os, each.arch) == (host.os, host.arch)), None)


def check_backend(backend: str) -> None:
    """Refuse a backend that no build is called after.

    Raises:
        QwenctlError: it is none.
    """
    word = backend.lower().partition("-")[0]
    if word not in BACKENDS:
        near = difflib.get_close_matches(word, BACKENDS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise SettingsError(
            f"cannot use backend {backend}: there is none", hint=f"{hint}one of {', '.join(BACKENDS)}"
        )


async def _listing(source: EngineSource, version: str | None) -> Listing:
    api = ReleaseApi(source.releases, source.cache, source.environment, offline=source.offline)
    return await (api.newest() if version is None else api.tagged(version))


def _listed(source: EngineSource, name: str) -> tuple[Build | None, str | None]:
    """Return the build that has such a file in the listing that was read last, and its digest there."""
    try:
        listing = _run(_listing(replace(source, offline=True), None))
    except FetchError:
        return None, None
    builds = [build for release in listing.releases for build in builds_of(release).known]
    found = ((build, asset) for build in builds for asset in build.assets if asset.name == name)
    build, asset = next(found, (None, None))
    return build, asset.sha256 if asset is not None else None


def _from(build: Build) -> str:
    return "qwenctl engine install " + " ".join(f"--from {asset.name}" for asset in build.assets)


def _run(work: Coroutine[None, None, Result]) -> Result:
    return asyncio.run(work)
