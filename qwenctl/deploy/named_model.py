"""Find the profile of what the settings name: a file of this machine, or a profile by its name.

What is planned is the very file that is served. So a file's own header says what it is; a profile of the same
shape lends presets and advice. The header is read again whenever the file has changed.
"""

import contextlib
from functools import lru_cache
from pathlib import Path

from qwenctl import paths
from qwenctl.deploy.listed_model import listed_profile, with_listed_quants
from qwenctl.errors import FetchError, ModelFileError, SettingsError
from qwenctl.fetch.gguf_check import ModelParts, read_model
from qwenctl.files import reason
from qwenctl.model.from_gguf import is_quant_name, profile_from_gguf
from qwenctl.model.gguf_name import shards
from qwenctl.model.name import HubModel, quant_key
from qwenctl.model.profile import File, Profile
from qwenctl.model.toml import load_profile, load_profiles
from qwenctl.settings.load import ORIGINS, LoadedSettings
from qwenctl.settings.types import Settings


def named_profile(loaded: LoadedSettings, *, update: bool = False) -> Profile:
    """Return the profile of the model that these settings name. ``update``: ask the hub for a newer listing.

    Raises:
        ProfileError: there is no such profile, or its file is invalid.
        FetchError: the file is missing, no whole GGUF, or no model; or the hub cannot be asked.
        SettingsError: a quant is named that is not there.
    """
    path = loaded.settings.model.path
    if path is None:
        return _of_hub(loaded, update=update)
    meant = loaded.settings.profile if _is_meant(loaded, "model.path") else None
    profile = file_profile(Path(path), meant)
    quant, (own,) = loaded.settings.model.quant, profile.quants
    asked = loaded.origins["model.quant"] in ("flag", "up") and quant != "auto"
    if asked and quant_key(quant) != quant_key(own.name):
        raise SettingsError(
            f"cannot use quant {quant!r}: {path} is {own.name}",
            hint="leave out the quant, or name another file",
        )
    return profile


def _of_hub(loaded: LoadedSettings, *, update: bool) -> Profile:
    """Return the named profile, or one of the repository or the file that is named instead of its own."""
    model, offline = loaded.settings.model, loaded.settings.fetch.offline
    if model.repo is None and model.file is None:
        return _with_quant(load_profile(loaded.settings.profile, *_folders()), loaded)
    known = load_profiles(*_folders())
    meant = model.repo is None or _is_meant(loaded, "model.repo")
    named = load_profile(loaded.settings.profile, *_folders()) if meant else None
    repo = model.repo or (named.hub.repo if named is not None and named.hub is not None else None)
    if repo is None:
        raise SettingsError(
            f"cannot use [model] file {model.file}: profile {loaded.settings.profile} has no repository",
            hint="set [model] repo too, or name OWNER/REPO:FILE.gguf",
        )
    candidates = known if named is None else (named, *known)
    owner = next((one for one in candidates if _is_of(one, repo)), None)
    if owner is not None and owner.hub is not None and model.revision in (None, owner.hub.revision):
        if model.file is None:
            return _with_quant(owner, loaded)
        if owner.quant_of_file(model.file) is not None:
            return owner
    revision = model.revision
    if revision is None and owner is not None and owner.hub is not None:
        revision = owner.hub.revision
    quant = None if model.quant == "auto" or model.file else model.quant
    lender = named.name if named is not None else None
    wanted = HubModel(repo, quant, model.file, revision)
    return listed_profile(wanted, known, lender, offline=offline, update=update)


def _with_quant(profile: Profile, loaded: LoadedSettings) -> Profile:
    """Return the profile; with its repository's listing, where a quant is named that only that may have."""
    quant = loaded.settings.model.quant
    if quant == "auto" or profile.quant(quant) is not None or not is_quant_name(quant):
        return profile
    try:
        return with_listed_quants(profile, quant, offline=loaded.settings.fetch.offline)
    except FetchError as error:
        raise SettingsError(
            f"cannot use quant {quant!r}: profile {profile.name} has no such quant, and {error.message}",
            hint=f"known: {', '.join(one.name for one in profile.quants)}",
        ) from error


def _is_of(profile: Profile, repo: str | None) -> bool:
    return profile.hub is not None and repo is not None and profile.hub.repo.lower() == repo.lower()


def settings_of(settings: Settings, profile: Profile) -> Settings:
    """Return the settings with what the model's name says: its quant, and the commit that was looked at."""
    model = settings.model
    if model.path is not None and profile.made:
        model = model.model_copy(update={"quant": "auto"})  # a file holds one quant
    elif model.file is not None:
        of_file = profile.quant_of_file(model.file)
        model = model.model_copy(update={"quant": of_file.name if of_file is not None else "auto"})
    if profile.made and model.path is None and profile.hub is not None:
        model = model.model_copy(update={"repo": profile.hub.repo, "revision": profile.hub.revision})
    return settings.model_copy(update={"model": model})


def file_profile(path: Path, named: str | None = None) -> Profile:
    """Return the profile of a file. ``named``: the profile that was named beside it.

    Raises:
        ModelFileError: the file is missing, no whole GGUF, or no model.
    """
    try:
        model = read_model_once(path)
        files = tuple(File(name=file.name, bytes=file.bytes) for file in model.files)
        return profile_from_gguf(model.headers, files, load_profiles(*_folders()), named)
    except FetchError as error:
        raise ModelFileError(error.message.replace("the file", str(path), 1), error.hint) from error


def read_model_once(path: Path) -> ModelParts:
    """Return a model's headers; from memory, as long as no part of the file has changed.

    Raises:
        FetchError: the file is missing, no whole GGUF, or no model.
    """
    try:
        stamps = [stamp_of(path)]
    except OSError as error:
        raise _missing(path, error) from error
    for name in shards(path.name):
        with contextlib.suppress(OSError):  # reading says which part is missing
            stamps.append(stamp_of(path.with_name(name)))
    return _read(path, tuple(stamps))


def stamp_of(path: Path) -> tuple[int, int]:
    """Return what tells a file from another one of the same name: its size and its time.

    Raises:
        OSError: it cannot be looked at.
    """
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=4)
def _read(path: Path, stamps: tuple[tuple[int, int], ...]) -> ModelParts:
    del stamps
    return read_model(path)


def _missing(path: Path, error: OSError) -> FetchError:
    hint = "check [model] path, or the name after up"
    if len(path.parts) == 4 and not path.parent.parent.is_dir():
        hint += "; a file of a repository is written OWNER/REPO:FILE.gguf"
    return FetchError(f"cannot read {path}: {reason(error)}", hint=hint)


def _is_meant(loaded: LoadedSettings, key: str) -> bool:
    """Return whether the profile was named for this file or repository: beside it, or by a stronger layer."""
    profile, path = loaded.origins["profile"], loaded.origins[key]
    return profile not in ("profile", "default") and ORIGINS.index(profile) <= ORIGINS.index(path)


def _folders() -> tuple[Path, Path]:
    return paths.data_root() / "profiles", paths.config_dir() / "profiles"
