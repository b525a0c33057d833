"""The model file that an installed Python package carries: no download where its hash is right."""

import importlib.util
from pathlib import Path

from qwenctl.fetch.request import Artifact, ArtifactFile
from qwenctl.fetch.sha256 import hash_file
from qwenctl.model.profile import Quant


def packaged_artifact(quant: Quant) -> Artifact | None:
    """Return the file of a quant's package, None where it is not installed or is another file. Blocks.

    The file is hashed each time: such packages hold small models (98 MB take 0.2 s).

    Raises:
        FetchError: the file is there and cannot be read.
    """
    path = packaged_path(quant)
    if path is None:
        return None
    file = quant.files[0]
    if file.sha256 is not None and hash_file(path, lambda _: None, lambda: False) != file.sha256:
        return None
    return Artifact(files=(ArtifactFile(file.name, path, file.bytes, file.sha256),), quant=quant.name)


def packaged_path(quant: Quant) -> Path | None:
    """Return where the package's file is, None if none of the right size is there. Runs none of its code."""
    package = quant.package
    if package is None or len(quant.files) != 1:
        return None
    try:
        spec = importlib.util.find_spec(package.module)
    except (ImportError, ValueError):
        return None
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        path = Path(folder) / package.path
        if path.is_file() and path.stat().st_size == quant.files[0].bytes:
            return path
    return None
