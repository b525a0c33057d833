"""Read profiles from TOML: the shipped ones and the user's own. Reads files; decides nothing."""

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from qwenctl.errors import ProfileError
from qwenctl.model.profile import Profile
from qwenctl.settings.local_paths import PROFILE_FILE, absolute_layer
from qwenctl.settings.types import Settings

AnyModel = TypeVar("AnyModel", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """A profile file and its folder. The user's own profile replaces a shipped one of the same name."""

    name: str
    path: Path
    origin: Literal["shipped", "own"]


def find_profiles(shipped: Path, own: Path) -> tuple[ProfileFile, ...]:
    """Return every profile file by name, sorted."""
    files = {path.stem: ProfileFile(path.stem, path, "shipped") for path in shipped.glob("*.toml")}
    files |= {path.stem: ProfileFile(path.stem, path, "own") for path in own.glob("*.toml")}
    return tuple(files[name] for name in sorted(files))


def load_profile(name: str, shipped: Path, own: Path) -> Profile:
    """Return the profile of that name, or the one in the file of that name.

    Raises:
        ProfileError: no such profile, or its file is invalid.
    """
    if name.endswith(PROFILE_FILE):
        return read_profile(Path(name).expanduser())
    profiles = {file.name: file for file in find_profiles(shipped, own)}
    if name not in profiles:
        near = difflib.get_close_matches(name, profiles, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known profiles: {', '.join(profiles)}"
        raise ProfileError(f"cannot find profile {name!r}: no such file in {shipped} or {own}", hint=hint)
    return read_profile(profiles[name].path)


def load_profiles(shipped: Path, own: Path) -> tuple[Profile, ...]:
    """Return every profile that can be read, sorted by name: one of them may fit where another does not.

    A person's own file that is invalid is left out; naming it says what is wrong with it.

    Raises:
        ProfileError: a shipped file is invalid.
    """
    found = (read_or_fault(file) for file in find_profiles(shipped, own))
    return tuple(one for one in found if isinstance(one, Profile))


def read_or_fault(file: ProfileFile) -> Profile | ProfileError:
    """Return the profile, or what is wrong with a person's own file.

    Raises:
        ProfileError: a shipped file is invalid.
    """
    try:
        return read_profile(file.path)
    except ProfileError as error:
        if file.origin == "shipped":
            raise
        return error


def read_profile(path: Path) -> Profile:
    """Return the profile in ``path``.

    Raises:
        ProfileError: the file cannot be read, is no TOML, or has keys or values that a profile cannot have.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # not TOML, or a number too long to be read
        raise ProfileError(f"cannot read profile {path}: {error}") from error
    if "made" in table:
        raise ProfileError(f"cannot use profile {path}: made: unknown key", hint="leave it out")
    if isinstance(settings := table.get("settings"), dict):
        table = table | {"settings": absolute_layer(settings, path.absolute().parent)}
    if isinstance(settings := table.get("settings"), dict):
        table["settings"] = absolute_layer(settings, path.absolute().parent)
    profile = _validated(path, Profile, table)
    _validated(path, Settings, profile.settings, within=("settings",))
    if profile.name != path.stem:
        raise ProfileError(
            f"cannot use profile {path}: it calls itself {profile.name!r}",
            hint=f"rename the file to {profile.name}.toml, or set name to {path.stem!r}",
        )
    return profile


def _validated(path: Path, model: type[AnyModel], table: object, within: tuple[str, ...] = ()) -> AnyModel:
    try:
        return model.model_validate(table)
    except ValidationError as error:
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")  # a typo explains most
        where = ".".join(str(part) for part in (*within, *first["loc"]))
        cause = f"{where}: {_cause(first)}" if where else _cause(first)
        hint = _nearest_key(first, model)
        raise ProfileError(f"cannot use profile {path}: {cause}", hint=hint) from error


def _cause(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown key"
    message = error["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _nearest_key(error: ErrorDetails, table: object) -> str | None:
    """Return a hint for an unknown key: the nearest one of its table."""
    if error["type"] != "extra_forbidden":
        return None
    for part in error["loc"][:-1]:
        if isinstance(part, str) and isinstance(table, type) and issubclass(table, BaseModel):
            fields = {info.alias or name: info.annotation for name, info in table.model_fields.items()}
            table = _model_in(fields[part]) if part in fields else table  # else a name within a dict
    if not (isinstance(table, type) and issubclass(table, BaseModel)):
        return None
    names = [info.alias or name for name, info in table.model_fields.items()]
    near = difflib.get_close_matches(str(error["loc"][-1]), names, n=1)
    return f"did you mean {near[0]}?" if near else f"known keys: {', '.join(names)}"


def _model_in(annotation: object) -> object:
    """Return the model inside ``Model | None``, ``tuple[Model, ...]`` or ``dict[str, Model]``."""
    if get_origin(annotation) in (UnionType, Union, tuple, dict):
        return next(
            (arg for arg in get_args(annotation) if isinstance(arg, type) and issubclass(arg, BaseModel)),
            None,
        )
    return annotation
