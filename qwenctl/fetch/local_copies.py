"""Find files of other programs on this disk that may be the one that is wanted: by hash, else by size.

Whether one is the file is for its hash to say. Nothing here reads a file.
"""

from collections.abc import Iterable
from pathlib import Path

from qwenctl import paths
from qwenctl.fetch.request import RemoteFile
from qwenctl.model.library_files import walk


def copies(file: RemoteFile, folders: paths.ModelFolders | None = None) -> Iterable[Path]:
    """Yield files of Ollama with this hash in their name, then GGUF files of the same size elsewhere."""
    folders = folders or paths.model_folders()
    for folder in folders.ollama:
        blob = folder / "blobs" / f"sha256-{file.sha256}"
        if _has_size(blob, file.bytes):
            yield blob
    for folder in (*folders.lm_studio, *folders.llama_cpp):
        for path in walk(folder).files:
            if path.suffix.lower() == ".gguf" and _has_size(path, file.bytes):
                yield path


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.is_file() and path.stat().st_size == size
    except OSError:
        return False
