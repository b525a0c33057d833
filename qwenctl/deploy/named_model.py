"""Find the profile of what the settings name: a file of this machine, or a profile by its name.

What is planned is the very file that is served. So a file's own header says what it is; a profile of the same
shape lends presets and advice. The header is read again whenever the file has changed.
"""

from functools import lru_cache
from pathlib import Path

from qwenctl import paths
from qwenctl.errors import FetchError, SettingsError
from qwenctl.fetch.gguf_check import ModelParts, read_model
from qwenctl.files import reason
from qwenctl.model.from_gguf import profile_from_gguf
from qwenctl.model.name import quant_key
from qwenctl.model.profile import File, Profile
from qwenctl.model.toml import load_profile, load_profiles
from qwenctl.settings.load import ORIGINS, LoadedSettings


def named_profile(loaded: LoadedSettings) -> Profile:
    """Return the profile of the model that these settings name.

    Raises:
        ProfileError: there is no such profile, or its file is invalid.
        FetchError: the file is missing, no whole GGUF, or no model.
        SettingsError: a quant is named that the file is not.
    """
    path = loaded.settings.model.path
    if path is None:
        return load_profile(loaded.settings.profile, *_folders())
    profile = file_profile(Path(path), loaded.settings.profile if _is_meant(loaded) else None)
    quant, (own,) = loaded.settings.model.quant, profile.quants
    asked = loaded.origins["model.quant"] in ("flag", "up") and quant != "auto"
    if asked and quant_key(quant) != quant_key(own.name):
        raise SettingsError(
            f"cannot use quant {quant!r}: {path} is {own.name}",
            hint="leave out the quant, or name another file",
        )
    return profile


def file_profile(path: Path, named: str | None = None) -> Profile:
    """Return the profile of a file. ``named``: the profile that was named beside it.

    Raises:
        FetchError: the file is missing, no whole GGUF, or no model.
    """
    model = read_model_once(path)
    files = tuple(File(name=file.name, bytes=file.bytes) for file in model.files)
    try:
        return profile_from_gguf(model.headers, files, load_profiles(*_folders()), named)
    except FetchError as error:
        raise FetchError(error.message.replace("the file", str(path), 1), error.hint) from error


def read_model_once(path: Path) -> ModelParts:
    """Return a model's headers; from memory, as long as no part of the file has changed.

    Raises:
        FetchError: the file is missing, no whole GGUF, or no model.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise _missing(path, error) from error
    return _read(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, size: int, mtime_ns: int) -> ModelParts:
    del size, mtime_ns
    return read_model(path)


def _missing(path: Path, error: OSError) -> FetchError:
    hint = "check [model] path, or the name after up"
    if len(path.parts) == 4 and not path.parent.parent.is_dir():
        hint += "; a file of a repository is written OWNER/REPO:FILE.gguf"
    return FetchError(f"cannot read {path}: {reason(error)}", hint=hint)


def _is_meant(loaded: LoadedSettings) -> bool:
    """Return whether the profile was named for this file: beside it, or by a stronger layer."""
    profile, path = loaded.origins["profile"], loaded.origins["model.path"]
    return profile not in ("profile", "default") and ORIGINS.index(profile) <= ORIGINS.index(path)


def _folders() -> tuple[Path, Path]:
    return paths.data_root() / "profiles", paths.config_dir() / "profiles"
