"""Find qwenctl's folders. The only module that uses platformdirs. Only ``private_dir`` creates one."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from qwenctl.errors import ControlError
from qwenctl.files import reason

SOCKET_PATH_BYTES = 103
"""The longest path for a Unix socket on every system. Source: sun_path, 104 bytes on macOS with its NUL."""

SYSTEM_UNIT = Path("/etc/systemd/system/qwenctl.service")
SYSTEM_CONFIG, SYSTEM_STATE, SYSTEM_CACHE = (
    Path("/etc/qwenctl"),
    Path("/var/lib/qwenctl"),
    Path("/var/cache/qwenctl"),
)
"""The folders of the system service. Source: StateDirectory= and CacheDirectory=, systemd.exec(5)."""

BREW_PATH = ("/opt/homebrew/bin", "/usr/local/bin")
"""Homebrew's folders on Apple silicon and on Intel. launchd gives a job neither. Source: docs.brew.sh."""


def data_root() -> Path:
    """Return the folder of ``profiles/``, ``systemd/`` and ``launchd/``: packaged, or the checkout."""
    packaged = Path(__file__).parent / "_data"
    return packaged if packaged.is_dir() else Path(__file__).parents[1]


def config_dir() -> Path:
    """Return the folder of ``config.toml`` and of a person's own ``profiles/``."""
    return SYSTEM_CONFIG if system_wide() else Path(platformdirs.user_config_dir("qwenctl"))


def cache_dir() -> Path:
    """Return the folder of files that can be made again: demo model, header files, ``--help`` texts."""
    return SYSTEM_CACHE if system_wide() else Path(platformdirs.user_cache_dir("qwenctl"))


def state_dir() -> Path:
    """Return the daemon's folder: lock, status, sockets, overrides, events, logs. One daemon per folder."""
    return SYSTEM_STATE if system_wide() else Path(platformdirs.user_state_dir("qwenctl"))


def log_dir(state: Path) -> Path:
    """Return the folder of the logs of the daemon that uses ``state``.

    On a Mac they lie where Console.app looks, unless the daemon has another folder than the usual one: two
    daemons must not write the same files.
    """
    library = Path.home() / "Library"
    usual = sys.platform == "darwin" and state == library / "Application Support/qwenctl"
    return library / "Logs/qwenctl" if usual else state


def engines_dir() -> Path:
    """Return the folder of installed engines: not a cache, because nobody else can make them again."""
    return (
        SYSTEM_STATE / "engines" if system_wide() else Path(platformdirs.user_data_dir("qwenctl")) / "engines"
    )


def user_units() -> Path:
    """Return the folder of a user's own systemd units. Source: systemd.unit(5)."""
    return Path(platformdirs.user_config_dir()) / "systemd/user"


def client_file(variable: str, folder: str, name: str) -> Path:
    """Return another program's settings file: in the folder that ``variable`` names, else in ``folder``."""
    return Path(os.environ.get(variable) or folder).expanduser() / name


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """Where other programs keep models. A folder that is not there is no error."""

    llama_cpp: tuple[Path, ...] = ()
    lm_studio: tuple[Path, ...] = ()
    ollama: tuple[Path, ...] = ()


def model_folders() -> ModelFolders:
    """Return the folders of other programs' models, from their variables or their defaults.

    Source: llama.cpp b11434, common/common.cpp, fs_get_cache_directory; LM Studio's documentation, and its
    older folder; Ollama's FAQ, OLLAMA_MODELS, and the home of the user of its Linux service.
    """
    home, ollama = Path.home(), os.environ.get("OLLAMA_MODELS")
    cache = Path(os.environ.get("LLAMA_CACHE") or Path(platformdirs.user_cache_dir()) / "llama.cpp")
    service = (Path("/usr/share/ollama/.ollama/models"), Path("/var/lib/ollama/models"))
    return ModelFolders(
        (cache.expanduser(),),
        (*_lm_studio(home), home / ".cache/lm-studio/models"),
        (Path(ollama).expanduser(),) if ollama else (home / ".ollama/models", *service),
    )


def _lm_studio(home: Path) -> tuple[Path, ...]:
    """Return LM Studio's folder. A file in the home names it. Source: lmstudio.js, find-lms-home."""
    try:
        with (home / ".lmstudio-home-pointer").open(encoding="utf-8") as file:
            named = Path(file.read(4096).strip())
    except (OSError, ValueError):
        named = home / ".lmstudio"
    return (named / "models",) if named.is_absolute() else ()


def system_wide() -> bool:
    """Whether to use the system service's folders: for root, where the system service is installed.

    Root uses its own folders if XDG_STATE_HOME is set or root has a user unit.
    """
    return (
        sys.platform == "linux"
        and os.geteuid() == 0
        and "XDG_STATE_HOME" not in os.environ
        and SYSTEM_UNIT.is_file()
        and not (user_units() / SYSTEM_UNIT.name).is_file()
    )


def private_dir(path: Path) -> Path:
    """Create ``path`` readable by its owner alone and return it.

    Raises:
        ControlError: the folder cannot be created or written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise ControlError(
            f"cannot use folder {path}: {reason(error)}",
            hint="make it writable, or set XDG_STATE_HOME and XDG_CACHE_HOME to folders that are",
        ) from error
    return path


def socket_path(folder: Path, name: str) -> Path:
    """Return ``folder/name`` if a Unix socket can have that path.

    Raises:
        ControlError: the path is longer than any system allows.
    """
    path = folder / name
    length = len(bytes(path))
    if length > SOCKET_PATH_BYTES:
        raise ControlError(
            f"cannot use folder {folder}: socket path is {length} bytes, at most {SOCKET_PATH_BYTES} work",
            hint="set XDG_STATE_HOME to a shorter folder",
        )
    return path
