"""The types of a fetch: the request, the files it stands for, the artifact, the progress. Pure: no I/O."""

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal

from qwenctl.errors import FetchError
from qwenctl.model.profile import Profile, Quant
from qwenctl.settings.types import Settings

FetchPhase = Literal["waiting", "downloading", "verifying", "done"]


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file by its name in the repository; the hash is known where the profile pins it."""

    name: str
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """One quant of one repository, and how to get it.

    ``files`` are looked for by name, then by ``pattern`` (a glob over names). ``revision`` is a branch, a
    tag or a commit; ``update`` asks the hub for a newer commit of it, of ``main`` where it is a commit.
    ``cache_dir`` None is the folder huggingface_hub uses.
    """

    repo: str
    files: tuple[WantedFile, ...]
    revision: str = "main"
    pattern: str | None = None
    quant: str | None = None
    architecture: str | None = None
    offline: bool = False
    update: bool = False
    connections: int = 4
    range_mib: int = 8
    cache_dir: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files."""
        return tuple(file.name for file in self.files)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the hub lists it. ``sha256`` is None where the hub keeps it outside LFS."""

    name: str
    bytes: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class ResolvedRequest:
    """The files that a request stands for at one commit."""

    repo: str
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)

    def with_bytes_before(self) -> tuple[tuple[int, RemoteFile], ...]:
        """Return each file with the bytes of those before it."""
        before = accumulate((file.bytes for file in self.files), initial=0)
        return tuple(zip(before, self.files, strict=False))


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """A verified file on disk."""

    name: str
    path: Path
    bytes: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified artifact. ``path`` is the value of ``-m``. No repository: a file of this machine."""

    files: tuple[ArtifactFile, ...]
    repo: str | None = None
    revision: str | None = None
    commit: str | None = None
    quant: str | None = None

    @property
    def path(self) -> Path:
        """The first file; the server finds the other parts beside it."""
        return self.files[0].path


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fetch is. Bytes of all files together; ``file`` is the current one."""

    file: str
    bytes: int
    total_bytes: int
    bytes_per_s: float
    phase: FetchPhase


def hash_of(file: RemoteFile) -> str:
    """Return the hash to compare a file with.

    Raises:
        FetchError: the hub lists none.
    """
    if file.sha256 is None:
        raise FetchError(
            f"cannot verify {file.name}: the hub lists no sha256 of it",
            hint="choose a repository that keeps its files in LFS, or set [model] path",
        )
    return file.sha256


def pinned_files(request: FetchRequest) -> tuple[RemoteFile, ...]:
    """Return the files of a request whose profile pins every size and hash; none if it does not.

    Such files are known without a hub, whatever they are called and whatever became of their commit.
    """
    files = tuple(
        RemoteFile(file.name, file.bytes, file.sha256)
        for file in request.files
        if file.bytes is not None and file.sha256 is not None
    )
    return files if len(files) == len(request.files) else ()


def is_commit(revision: str) -> bool:
    """Whether a revision names one commit for ever, rather than a branch or a tag."""
    return len(revision) == 40 and all(letter in "0123456789abcdef" for letter in revision)


def request_for(
    profile: Profile, quant: Quant, settings: Settings, *, update: bool = False
) -> FetchRequest | None:
    """Return the request for a quant of a profile, or None where the profile's file comes from no hub.

    Sizes and hashes of the profile hold at its own revision only: with another repository, revision or
    file, or an update, the hub's are used alone.
    """
    model = settings.model
    repo = model.repo or (profile.hub.repo if profile.hub else None)
    if repo is None:
        return None
    own = profile.hub is not None and repo == profile.hub.repo
    revision = model.revision or (profile.hub.revision if profile.hub is not None and own else "main")
    pinned = own and profile.hub is not None and revision == profile.hub.revision and not update
    if model.file is not None:
        files: tuple[WantedFile, ...] = (WantedFile(model.file),)
    elif pinned:
        sizes = (None if quant.estimated and not file.sha256 else file.bytes for file in quant.files)
        files = tuple(
            WantedFile(file.name, size, file.sha256) for file, size in zip(quant.files, sizes, strict=True)
        )
    else:
        files = tuple(WantedFile(file.name) for file in quant.files)
    return FetchRequest(
        repo=repo,
        files=files,
        revision=revision,
        pattern=None if model.file else quant.pattern,
        quant=quant.name,
        architecture=profile.architecture.name,
        offline=settings.fetch.offline,
        update=update,
        connections=settings.fetch.connections,
        range_mib=settings.fetch.range_mib,
    )
