"""Find the endpoint that a command uses: its address, its API key, and the plan behind it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click

from qwenctl import paths
from qwenctl.cli.arguments import request
from qwenctl.cli.output import Session
from qwenctl.control.state_dir import read_status, running
from qwenctl.deploy import pipeline
from qwenctl.deploy.types import ResolvedSettings
from qwenctl.engine.address import endpoint_address
from qwenctl.errors import FetchError, NotRunningError, SettingsError
from qwenctl.model.name import quant_key
from qwenctl.settings.key_file import first_key
from qwenctl.settings.load import api_keys

if TYPE_CHECKING:
    from qwenctl.client.openai_api import Api

UNSAFE = "Where there is no sandbox, run the code with time and memory limits only."
"""Help of ``--unsafe``."""
Function = TypeVar("Function", bound=Callable[..., object])


class Target(NamedTuple):
    """An endpoint. ``resolved`` and ``status`` belong to our own daemon; they are None for another server."""

    url: str
    key: str | None
    resolved: ResolvedSettings | None = None
    status: dict[str, object] | None = None

    def api(self) -> "Api":
        """Return a client for this endpoint."""
        from qwenctl.client.openai_api import Api

        return Api(self.url, self.key)


def endpoint(function: Function) -> Function:
    """Add the options that choose the endpoint."""
    key = click.option(
        "--api-key-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="File with the API key of the server.",
    )
    return click.option("--url", metavar="URL", help="Use this OpenAI-compatible server.")(key(function))


def target(session: Session, url: str | None, api_key_file: Path | None, model: str | None = None) -> Target:
    """Return the server at ``url``, or the server of our own daemon. ``model``: what that must be serving.

    The key comes from ``api_key_file``. For our own daemon it may also be the first one in
    ``QWENCTL_API_KEY`` or in the file of ``[server] api_key_file``.

    Raises:
        NotRunningError: no ``url`` was given, and there is no daemon.
        SettingsError: the key file cannot be used, or another model is served than the one named.
    """
    key = None if api_key_file is None else first_key(api_key_file)
    if url is not None and model is not None:
        raise SettingsError(f"cannot use model {model} with --url: that server has its own")
    if url is not None:
        return Target(url if "://" in url else f"http://{url}", key)
    folder = paths.state_dir()
    status = read_status(folder)
    if running(folder) is None or status is None:
        raise NotRunningError(
            "cannot find an endpoint: the daemon is not running",
            hint="qwenctl up starts it; --url uses another server",
        )
    try:
        resolved = pipeline.resolve(request(session, {}, model))
    except FetchError:
        if model is not None:
            raise
        resolved = pipeline.resolve_without_model(request(session, {}))  # what serves may go on without it
    if model is not None:
        _check_serves(resolved, status, model)
    if key is None:
        key = next(iter(api_keys()), None)
    if key is None and resolved.settings.server.api_key_file is not None:
        key = first_key(Path(resolved.settings.server.api_key_file))
    usual = endpoint_address(resolved.settings).url
    return Target(str(status.get("endpoint") or usual), key, resolved, status)


def _check_serves(resolved: ResolvedSettings, status: dict[str, object], model: str) -> None:
    """Check that the daemon serves the model that was named.

    Raises:
        SettingsError: it serves another one.
    """
    plan = status.get("plan")
    plan = plan if isinstance(plan, dict) else {}
    wanted = resolved.settings.model
    same = plan.get("profile") == resolved.profile.name
    if wanted.path is not None:
        same = plan.get("path") == wanted.path
    elif wanted.quant != "auto":
        same = same and quant_key(str(plan.get("quant"))) == quant_key(wanted.quant)
    if not same:
        serves = f"{plan['profile']} {plan['quant']}" if plan else "nothing"
        raise SettingsError(
            f"cannot use model {model}: the daemon serves {serves}", hint=f"qwenctl up {model} serves it"
        )
