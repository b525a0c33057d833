"""Turn the options of a command line into a plan request. Imported by commands that plan."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from qwenctl import paths
from qwenctl.cli.output import Session
from qwenctl.errors import SettingsError
from qwenctl.settings.load import fault_of, merge, nest

if TYPE_CHECKING:
    from qwenctl.deploy.types import PlanRequest

OPTIONS = {
    "profile": "--profile",
    "model.quant": "--quant",
    "context.tokens": "--ctx",
    "server.port": "--port",
    "fetch.offline": "--offline",
}
"""The option that gives a setting on a command line."""


def flags(session: Session, values: Mapping[str, object]) -> dict[str, object]:
    """Return the settings that were given as options, nested by table. A value of None was not given.

    Raises:
        SettingsError: an option has an impossible value. The message names the option.
    """
    values_by_key = {"profile": session.profile, **values}
    for key, value in values_by_key.items():
        if value is not None and (why := fault_of(key, value)) is not None:
            raise SettingsError(f"cannot use {OPTIONS.get(key, key)} {value}: {why}")
    return merge(*(nest(key, value) for key, value in values_by_key.items() if value is not None))


def request(session: Session, values: Mapping[str, object]) -> "PlanRequest":
    """Return the plan request of this command line; it builds on the options of earlier ``up`` calls."""
    from qwenctl.deploy.types import PlanRequest

    return PlanRequest(paths.state_dir(), flags(session, values), config(session))


def config(session: Session) -> Path | None:
    """Return the config file that ``--config`` names."""
    return Path(session.config).expanduser().absolute() if session.config else None
