"""Turn the words of a command line into a request. Imported by commands that plan."""

from collections.abc import Mapping
from pathlib import Path

from qwenctl import paths
from qwenctl.cli.output import Session
from qwenctl.deploy.types import PlanRequest
from qwenctl.settings.load import merge, nest


def flags(session: Session, values: Mapping[str, object]) -> dict[str, object]:
    """Return the dotted settings that were given as flags, nested; None means not given."""
    given = {"profile": session.profile, **values}
    return merge(*(nest(key, value) for key, value in given.items() if value is not None))


def request(session: Session, values: Mapping[str, object]) -> PlanRequest:
    """Return what this command line asks for, on top of what is kept in the state folder."""
    return PlanRequest(paths.state_dir(), flags(session, values), config(session))


def config(session: Session) -> Path | None:
    """Return the config file that was named."""
    return Path(session.config).expanduser().absolute() if session.config else None
