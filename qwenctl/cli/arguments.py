"""Turn the arguments of a command line into a plan request. Imported by commands that plan."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from qwenctl import paths
from qwenctl.cli.output import Session
from qwenctl.control.state_dir import read_overrides
from qwenctl.errors import SettingsError
from qwenctl.model.name import ProfileName, layer_of, parse_name, quant_key
from qwenctl.settings.load import fault_of, merge, nest
from qwenctl.settings.local_paths import absolute_layer, absolute_path

if TYPE_CHECKING:
    from qwenctl.deploy.types import PlanRequest

OPTIONS = {
    "profile": "--profile",
    "model.quant": "--quant",
    "context.tokens": "--ctx",
    "server.port": "--port",
    "hardware.gpu": "--cpu",
    "fetch.offline": "--offline",
}
"""The option that gives a setting on a command line."""
NAMES = ("path", "repo", "file", "revision")
"""The settings of ``[model]`` that name another model than the profile's."""
Function = TypeVar("Function", bound=Callable[..., object])
Layer = dict[str, object]


def model_argument(function: Function) -> Function:
    """Add the argument that names the model."""
    return click.argument("model", required=False, metavar="[MODEL]")(function)


def flags(
    session: Session, values: Mapping[str, object], model: str | None = None, *, anew: bool = False
) -> Layer:
    """Return the settings that the command line gives, nested by table. A value of None was not given.

    ``model`` is the argument that names a model; ``anew``: what earlier ``up`` calls said is dropped anyway.

    Raises:
        SettingsError: an option has an impossible value; the message names the option. Or the two names of
            the model, the argument's and an option's, disagree.
        ProfileError: no profile has the name.
    """
    values_by_key = {"profile": session.profile, **values}
    for key, value in values_by_key.items():
        if value is not None and (why := fault_of(key, value)) is not None:
            raise SettingsError(f"cannot use {OPTIONS.get(key, key)} {value}: {why}")
    spoken = merge(*(nest(key, value) for key, value in values_by_key.items() if value is not None))
    given = absolute_layer(spoken, None)
    if model is not None:
        return merge(_named(model, values_by_key), given)
    if session.profile is not None and not anew:
        return merge(_without_earlier_model(), given)
    return given


def _named(model: str, given: Mapping[str, object]) -> Layer:
    """Return the settings that the name of a model stands for, once it agrees with the options."""
    from qwenctl.model.toml import find_profiles

    found = find_profiles(paths.data_root() / "profiles", paths.config_dir() / "profiles")
    name = parse_name(model, (each.name for each in found), is_file=_is_file(model))
    profile, quant = given.get("profile"), given.get("model.quant")
    if isinstance(name, ProfileName) and profile not in (None, name.name):
        raise SettingsError(
            f"cannot use --profile {profile}: the model is profile {name.name}", hint="leave out one of them"
        )
    named = getattr(name, "quant", None)
    if named is not None and quant is not None and quant_key(named) != quant_key(str(quant)):
        raise SettingsError(
            f"cannot use --quant {quant}: the model's name says {named}", hint="leave out one of them"
        )
    layer = layer_of(name)
    if isinstance(name, ProfileName):
        return layer | absolute_layer({"profile": name.name}, None)
    table = layer["model"]
    if isinstance(table, dict) and table["path"] is not None:
        layer["model"] = table | {"path": absolute_path("model.path", table["path"])}
    return layer


def _without_earlier_model() -> Layer:
    """Return what takes back a file or a repository that an earlier ``up`` named: a profile is named now."""
    kept = read_overrides(paths.state_dir()).get("model")
    if not isinstance(kept, dict) or all(kept.get(name) is None for name in NAMES):
        return {}
    return {"model": dict.fromkeys((*NAMES, "quant"))}


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):
        return False


def request(session: Session, values: Mapping[str, object], model: str | None = None) -> "PlanRequest":
    """Return the plan request of this command line; it builds on the options of earlier ``up`` calls."""
    from qwenctl.deploy.types import PlanRequest

    return PlanRequest(paths.state_dir(), flags(session, values, model), config(session))


def config(session: Session) -> Path | None:
    """Return the config file that ``--config`` names."""
    return Path(session.config).expanduser().absolute() if session.config else None
