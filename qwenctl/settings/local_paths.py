"""Make the paths among settings absolute, once, where they are read.

The daemon works in ``/``: a relative path would mean another file there than in the shell it was typed in.
"""

from collections.abc import Mapping
from pathlib import Path

from qwenctl.errors import SettingsError
from qwenctl.files import reason

PATHS = ("model.path", "server.api_key_file", "server.binary")
"""The settings that are paths on this machine; they may begin with ``~``."""
PROFILE_FILE = ".toml"
"""The ending of a profile that is named by its file."""
NO_PATH = {"server.binary": "auto"}
"""The word that stands for no path."""


def absolute_layer(layer: Mapping[str, object], folder: Path | None) -> dict[str, object]:
    """Return a layer of settings with absolute paths. ``folder`` is where it was read; None: where we work.

    Raises:
        SettingsError: a path is relative to the working folder, and that is gone.
    """
    profile = layer.get("profile")
    if isinstance(profile, str) and profile.endswith(PROFILE_FILE):
        layer = {**layer, "profile": absolute_path("profile", profile, folder)}
    for key in PATHS:
        section, name = key.split(".")
        table = layer.get(section)
        if isinstance(table, Mapping) and isinstance(table.get(name), str):
            path = absolute_path(key, str(table[name]), folder)
            layer = {**layer, section: {**table, name: path}}
    return dict(layer)


def absolute_path(key: str, text: str, folder: Path | None = None) -> str:
    """Return the value of a setting that is a path, absolute and without ``~``.

    A ``~`` of a user who does not exist stays as it is; so does a NUL. Whoever checks settings refuses both.

    Raises:
        SettingsError: it is relative to the working folder, and that is gone.
    """
    if not text or text == NO_PATH.get(key):
        return text
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        return text
    try:
        return str((folder or Path.cwd()) / path) if not path.is_absolute() else str(path)
    except OSError as error:
        raise SettingsError(
            f"cannot use setting {key}: {text!r} is relative to the working folder: {reason(error)}",
            hint="cd to another folder, or write the whole path",
        ) from error
