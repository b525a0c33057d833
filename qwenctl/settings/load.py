"""Merge the layers of settings: flags > up > environment > file > profile > defaults.

The only reader of config.toml and of ``QWENCTL_*``. Decides nothing about the model.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import (
    SettingsError as UnparsableError,
)

from qwenctl.errors import SettingsError
from qwenctl.files import reason
from qwenctl.settings.local_paths import PATHS, PROFILE_FILE, absolute_layer, absolute_path
from qwenctl.settings.types import Settings

Layer = Mapping[str, object]
PREFIX = "QWENCTL_"
API_KEY = "QWENCTL_API_KEY"
"""The variable of API keys. It is no setting, so keys are never shown, saved or passed on with settings."""
DEFAULTS = Settings()
ORIGINS = ("flag", "up", "environment", "file", "profile", "default")
"""Where a value can come from, the strongest first. ``up``: an option of an earlier ``qwenctl up``."""


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings and, for every dotted key, the layer that its value comes from."""

    settings: Settings
    origins: dict[str, str]


class _Environment(Settings, BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )


def load(
    flags: Layer | None = None,
    up: Layer | None = None,
    file: Layer | None = None,
    profile: Layer | None = None,
) -> LoadedSettings:
    """Return the settings of these layers and the environment.

    None in a layer, where a setting cannot be None, means that this layer says nothing of it; among the flags
    it also takes back what an earlier ``up`` said.

    Raises:
        SettingsError: a key is unknown or a value impossible. The message names the layer.
    """
    layers = {
        "flag": _spoken(absolute_layer(flags or {}, None), DEFAULTS),
        "up": _spoken(_merge(up or {}, _nones(flags or {})), DEFAULTS),
        "environment": _read_environment(),
        "file": file or {},
        "profile": profile or {},
    }
    merged: dict[str, object] = {}
    for layer in reversed(layers.values()):
        merged = _merge(merged, layer)
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise _explain(error, layers) from error
    _check_texts(settings)
    return LoadedSettings(settings, {key: _origin(key, layers) for key in known_keys()})


def read_file(path: Path, *, required: bool) -> dict[str, object]:
    """Return the tables of ``path``; an empty one if it does not exist and is not ``required``.

    A relative path in it means one from the file's own folder.

    Raises:
        SettingsError: the file cannot be read, or is no TOML.
    """
    try:
        return absolute_layer(tomllib.loads(path.read_text(encoding="utf-8")), path.absolute().parent)
    except FileNotFoundError as error:
        if not required:
            return {}
        raise SettingsError(f"cannot read settings {path}: no such file") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"cannot read settings {path}: {str(error).lower()}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"cannot read settings {path}: not UTF-8 text") from error
    except RecursionError as error:
        raise SettingsError(f"cannot read settings {path}: it is nested too deeply") from error
    except ValueError as error:  # not TOML's own: a number that Python does not read
        raise SettingsError(f"cannot read settings {path}: a number in it is too long") from error
    except OSError as error:
        raise SettingsError(f"cannot read settings {path}: {reason(error)}") from error


def api_keys(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the keys in ``QWENCTL_API_KEY``, separated by commas or white space; none if it is not set.

    Raises:
        SettingsError: the variable is set but has no key. An empty one must not turn the keys off.
    """
    value = (os.environ if environment is None else environment).get(API_KEY)
    if value is None:
        return ()
    keys = tuple(key for key in re.split(r"[,\s]+", value) if key)
    if not keys:
        raise SettingsError(
            f"cannot use environment variable {API_KEY}: it holds no key",
            hint=f"put a key into it, or unset {API_KEY}",
        )
    return keys


def absolute_environment() -> dict[str, str]:
    """Return the environment for a daemon: it works in another folder, so its paths are absolute.

    Raises:
        SettingsError: the working folder is gone, and a path is relative to it.
    """
    variables = {f"{PREFIX}{key.upper().replace('.', '__')}": key for key in PATHS}
    known = {name: key for name in os.environ if (key := variables.get(name.upper())) is not None}
    profile = f"{PREFIX}PROFILE"
    if os.environ.get(profile, "").endswith(PROFILE_FILE):
        known[profile] = "profile"
    return dict(os.environ) | {name: absolute_path(key, os.environ[name]) for name, key in known.items()}


def known_keys() -> tuple[str, ...]:
    """Return every dotted key, in the order of the documentation."""
    return tuple(_leaves(Settings, ""))


def value_of(settings: Settings, key: str) -> object:
    """Return the value of a dotted key."""
    value: object = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def nest(key: str, value: object) -> dict[str, object]:
    """Return ``{"server": {"port": value}}`` for ``server.port``."""
    first, _, rest = key.partition(".")
    return {first: nest(rest, value) if rest else value}


def fault_of(key: str, value: object) -> str | None:
    """Return why a dotted key cannot have this value; None if it can."""
    try:
        Settings.model_validate(nest(key, value))
    except ValidationError as error:
        return error.errors()[0]["msg"].lower()
    return None


def merge(*layers: Layer) -> dict[str, object]:
    """Return the layers as one; a later layer wins."""
    merged: dict[str, object] = {}
    for layer in layers:
        merged = _merge(merged, layer)
    return merged


def _check_texts(settings: Settings) -> None:
    """Refuse what no program can be given: a NUL, and the home folder of a user who does not exist."""
    for key in known_keys():
        value = value_of(settings, key)
        texts = value if isinstance(value, tuple) else (value,)
        if any(isinstance(text, str) and "\0" in text for text in texts):
            raise SettingsError(f"cannot use setting {key}: a NUL in {value!r}")
        if key in PATHS and isinstance(value, str):
            try:
                Path(value).expanduser()
            except RuntimeError as error:
                raise SettingsError(f"cannot use setting {key}: no home folder for {value!r}") from error


def _leaves(model: type[BaseModel], prefix: str) -> list[str]:
    keys: list[str] = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _leaves(field.annotation, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def _read_environment() -> Layer:
    known = {PREFIX + key.upper().replace(".", "__"): key for key in known_keys()}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known and name != API_KEY:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "qwenctl settings lists every key"
            raise SettingsError(f"cannot use environment variable {name}: no such setting", hint=hint)
    try:
        return absolute_layer(EnvSettingsSource(_Environment)(), None)
    except UnparsableError as error:
        raise SettingsError(
            f"cannot use an environment variable: {error}", hint='a list is written as JSON: ["a", "b"]'
        ) from error


def _spoken(layer: Layer, defaults: BaseModel) -> dict[str, object]:
    """Return a layer without the settings that it leaves to others: those set to None that cannot be None."""
    spoken: dict[str, object] = {}
    for name, value in layer.items():
        default = getattr(defaults, name, None)
        if isinstance(value, Mapping) and isinstance(default, BaseModel):
            spoken[name] = _spoken(value, default)
        elif value is not None or default is None:
            spoken[name] = value
    return spoken


def _nones(layer: Layer) -> dict[str, object]:
    """Return only what a layer sets to None."""
    tables = {name: _nones(value) for name, value in layer.items() if isinstance(value, Mapping)}
    return {name: None for name, value in layer.items() if value is None} | {
        name: table for name, table in tables.items() if table
    }


def _merge(below: Layer, above: Layer) -> dict[str, object]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _has(layer: Layer, key: str) -> bool:
    value: object = layer
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _origin(key: str, layers: Mapping[str, Layer]) -> str:
    return next((name for name, layer in layers.items() if _has(layer, key)), "default")


def _explain(error: ValidationError, layers: Mapping[str, Layer]) -> SettingsError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
    origin = _origin(key, layers)
    places = {
        "environment": f"environment {PREFIX}{key.upper().replace('.', '__')}",
        "file": "config file",
        "up": "kept from an earlier qwenctl up",
    }
    place = places.get(origin, origin)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, known_keys(), n=1)
        hint = f"did you mean {near[0]}?" if near else "qwenctl settings lists every key"
        return SettingsError(f"cannot use setting {key} ({place}): no such setting", hint=hint)
    return SettingsError(
        f"cannot use setting {key} ({place}): {first['msg'].lower()}, not {first['input']!r}",
        hint="qwenctl up --reset forgets the options of earlier ups" if origin == "up" else None,
    )
