"""Remember in the state folder which artifacts are used: commit, paths, hashes. One JSON file.

A recorded file counts as verified while its size and modification time are those of when it was hashed.
"""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from qwenctl.fetch import cache
from qwenctl.fetch.disk import cannot
from qwenctl.fetch.hub import default_hub
from qwenctl.fetch.request import Artifact, ArtifactFile, FetchRequest
from qwenctl.files import replace_text

FILE = "artifacts.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class RecordedFile(_Model):
    """A file, hashed when it had this size and time."""

    name: str
    path: Path
    bytes: int
    sha256: str
    mtime_ns: int

    def is_unchanged(self) -> bool:
        """Whether the file is still the one that was hashed."""
        try:
            now = self.path.stat()
        except OSError:
            return False
        return (now.st_size, now.st_mtime_ns) == (self.bytes, self.mtime_ns)


class Recorded(_Model):
    """The artifact of one request.

    ``fetched``: qwenctl downloaded it. ``superseded``: an update replaced it.
    """

    repo: str
    revision: str
    asked: tuple[str, ...]
    quant: str | None
    commit: str
    architecture: str | None
    fetched: bool
    files: tuple[RecordedFile, ...]
    superseded: bool = False

    def answers(self, request: FetchRequest) -> bool:
        """Whether it is the record of this request. The commit isn't compared: only an update changes it."""
        mine = (request.repo, request.revision, request.names)
        return not self.superseded and (self.repo, self.revision, self.asked) == mine

    def is_usable(self) -> bool:
        """Whether every file is as it was verified."""
        return bool(self.files) and all(file.is_unchanged() for file in self.files)

    def artifact(self) -> Artifact:
        """Return the artifact that is recorded."""
        return Artifact(
            files=tuple(ArtifactFile(file.name, file.path, file.bytes, file.sha256) for file in self.files),
            repo=self.repo,
            revision=self.revision,
            commit=self.commit,
            quant=self.quant,
        )


class Records(_Model):
    """Everything recorded in one state folder."""

    artifacts: tuple[Recorded, ...] = ()

    def find(self, request: FetchRequest) -> Recorded | None:
        """Return the record of a request."""
        return next((recorded for recorded in self.artifacts if recorded.answers(request)), None)

    def verified(self, path: Path, sha256: str) -> bool:
        """Whether these bytes were hashed before, under whatever request or link."""
        try:
            real = path.resolve(strict=True)
        except OSError:
            return False
        return any(
            file.sha256 == sha256 and file.is_unchanged() and file.path.resolve() == real
            for recorded in self.artifacts
            for file in recorded.files
        )


def read_records(state_dir: Path) -> Records:
    """Return the records: none if there is no file, or if it is damaged (the next fetch writes a new one)."""
    try:
        return Records.model_validate_json((state_dir / FILE).read_bytes())
    except (OSError, ValidationError):
        return Records()


def record(state_dir: Path, request: FetchRequest, artifact: Artifact, *, fetched: bool) -> None:
    """Note the artifact of a request.

    Raises:
        FetchError: the state folder can't be written.
    """
    entry = Recorded(
        repo=request.repo,
        revision=request.revision,
        asked=request.names,
        quant=request.quant,
        commit=artifact.commit or "",
        architecture=request.architecture,
        fetched=fetched,
        files=tuple(
            RecordedFile(
                name=file.name,
                path=file.path,
                bytes=file.bytes,
                sha256=file.sha256 or "",
                mtime_ns=file.path.stat().st_mtime_ns,
            )
            for file in artifact.files
        ),
    )
    others = []
    for other in read_records(state_dir).artifacts:
        if not other.answers(request):
            others.append(other)
        elif (
            other.commit != entry.commit
        ):  # an update came: the old one is still on the disk, for prune to find
            others.append(other.model_copy(update={"superseded": True}))
    write_records(state_dir, (*others, entry))


def write_records(state_dir: Path, artifacts: tuple[Recorded, ...]) -> None:
    """Replace the record.

    Raises:
        FetchError: the state folder can't be written.
    """
    path = state_dir / FILE
    text = json.dumps(
        {"schema": 1, "artifacts": [entry.model_dump(mode="json") for entry in artifacts]}, indent=2
    )
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_text(path, f"{text}\n")
    except OSError as error:
        raise cannot("write", path, error) from error


def expected_path(request: FetchRequest, state_dir: Path) -> Path:
    """Return the path for ``-m``: that of the recorded artifact, else the one that a fetch would make."""
    recorded = read_records(state_dir).find(request)
    if recorded is not None and recorded.is_usable():
        return recorded.artifact().path
    folder = default_hub(request.cache_dir, offline=True).folder(request.repo)
    commit = cache.read_ref(folder, request.revision) or request.revision
    return cache.snapshot_path(folder, commit, request.names[0])
