"""Use a GGUF file of this machine. The hub is not asked."""

from pathlib import Path

from qwenctl.fetch.check import check_gguf, shards
from qwenctl.fetch.request import Artifact, ArtifactFile


def local_artifact(path: Path, architecture: str | None = None) -> Artifact:
    """Return a file, with its other parts if it is split, once it is checked as a GGUF. Blocks.

    Its hash is not taken: there is nothing to compare it with.

    Raises:
        FetchError: it is missing, unreadable, no whole GGUF, or another architecture.
    """
    path = path.expanduser().absolute()
    check_gguf(path, architecture)
    parts = [path.with_name(name) for name in shards(path.name)]
    return Artifact(files=tuple(ArtifactFile(part.name, part, part.stat().st_size, None) for part in parts))
