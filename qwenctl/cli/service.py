"""``qwenctl service``: install, look at and remove the service that keeps the daemon running."""

from pathlib import Path

import click

from qwenctl import paths
from qwenctl.cli import via_service
from qwenctl.cli.arguments import config, flags
from qwenctl.cli.group import Group, common
from qwenctl.cli.output import Result, Session
from qwenctl.cli.progress import ProgressView
from qwenctl.control.wait import until_ready
from qwenctl.deploy import pipeline
from qwenctl.deploy.address import address
from qwenctl.deploy.types import PlanRequest, ResolvedSettings
from qwenctl.errors import ExitCode, NotRunningError, SettingsError
from qwenctl.service import command as programs
from qwenctl.service import linger
from qwenctl.service.install import Rendered, is_current, render, service_of
from qwenctl.service.installed_files import remove_leftovers
from qwenctl.service.places import Places, Scope, places, usual_scope
from qwenctl.settings.load import API_KEY, api_keys

NO_KEYS = (
    f"the service does not get {API_KEY}: its unit can be read by others; "
    "put the keys into a file, name it in [server] api_key_file, and install again"
)
SCOPE = click.option(
    "--user/--system",
    "user",
    default=None,
    help="For this user, or for the machine (root). Default: what is installed, else the machine for root.",
)


@click.group("service", cls=Group, epilog="Example: qwenctl service install --user --wait")
@common
def command() -> None:
    """Install, look at or remove the service that keeps the daemon running."""


@command.command("install", epilog="Example: sudo qwenctl service install --system --wait --json")
@common
@SCOPE
@click.option("--start/--no-start", default=True, help="Start it now, too.")
@click.option("--wait", is_flag=True, help="Wait for the first token.")
@click.option(
    "--socket/--no-socket",
    "socket",
    default=None,
    help="systemd: a socket unit holds the port while the daemon restarts. Default: where one can.",
)
@click.option("--linger", "lingering", is_flag=True, help="Run from boot on, not only while logged in.")
@click.option("--keep-awake", is_flag=True, help="macOS: do not sleep while the daemon runs.")
@click.pass_obj
def install(
    session: Session,
    /,
    user: bool | None,  # noqa: FBT001 - click's name
    socket: bool | None,  # noqa: FBT001 - click's name
    **switches: bool,
) -> Result:
    """Install the service, or bring it up to date. A second run changes nothing."""
    where, keys = places(_scope(user)), api_keys()
    resolved = _resolve(session, where)
    wanted = socket is not False
    rendered = _render(session, where, resolved, socket=wanted, keep_awake=switches["keep_awake"])
    if socket and rendered.socket is None:
        raise _no_socket("install")
    if switches["start"]:
        via_service.check_free(where, address(resolved.settings))
    changes = service_of(where).install(rendered.service, rendered.socket, start=switches["start"])
    changes += _linger(session, where, wanted=switches["lingering"])
    for change in changes:
        session.say(change)
    if keys:
        session.say(f"warning: {NO_KEYS}")
    endpoint = f"{address(resolved.settings).url}/v1"
    if switches["wait"] and switches["start"]:
        with ProgressView(session) as watch:
            endpoint = str(
                until_ready(where.state, resolved.settings.supervise.ready_timeout_s, watch)["endpoint"]
            )
    data = _data(where) | {"changed": bool(changes), "changes": changes, "endpoint": endpoint}
    return Result(data, "installed" if changes else "installed already; nothing changed")


@command.command("uninstall", epilog="Example: qwenctl service uninstall --user")
@common
@SCOPE
@click.pass_obj
def uninstall(session: Session, user: bool | None) -> Result:  # noqa: FBT001 - click's name
    """Stop and remove the service. Models and settings stay."""
    where = places(_scope(user))
    changes = service_of(where).uninstall()
    if changes:
        changes += remove_leftovers(where.state)
    for change in changes:
        session.say(change)
    data = _data(where) | {"changed": bool(changes), "changes": changes}
    return Result(data, "uninstalled; models and settings stay" if changes else "not installed")


@command.command("status", epilog="Example: qwenctl service status --json")
@common
@SCOPE
@click.pass_obj
def status(session: Session, user: bool | None) -> Result:  # noqa: FBT001 - click's name
    """Show what the service manager knows of the service. Exits 3 when it is not running."""
    where = places(_scope(user))
    if not where.service.exists():
        raise NotRunningError(
            f"cannot show the service: not installed ({where.service})", hint="qwenctl service install"
        )
    known = service_of(where).look()
    running = known.get("ActiveState", known.get("state")) in ("active", "activating", "reloading", "running")
    current = is_current(where, _resolve(session, where).settings)
    data = _data(where) | {"running": running, "current": current, "known": known}
    lines = [f"{name:20} {value}" for name, value in known.items() if value]
    lines.append(f"{'installed as':20} {where.service}")
    if not current:
        lines.append("its files differ from what qwenctl service install would write now")
    return Result(data, "\n".join(lines), ExitCode.OK if running else ExitCode.NOT_RUNNING)


@command.command("show", epilog="Example: qwenctl service show --system --socket")
@common
@SCOPE
@click.option("--socket", is_flag=True, help="The socket unit instead of the service unit.")
@click.pass_obj
def show(session: Session, user: bool | None, socket: bool) -> Result:  # noqa: FBT001 - click's name
    """Print the file that install would write. Changes nothing."""
    where = places(_scope(user))
    rendered = _render(session, where, _resolve(session, where))
    text = rendered.socket if socket else rendered.service
    if text is None:
        raise _no_socket("show")
    return Result({"text": text, "path": str(where.socket if socket else where.service)}, text.rstrip("\n"))


def _scope(user: bool | None) -> Scope:  # noqa: FBT001 - a flag with three states
    if user is None:
        return usual_scope()
    return "user" if user else "system"


def _resolve(session: Session, where: Places) -> ResolvedSettings:
    """Check the settings that the service will find, before anything is changed."""
    named = config(session)
    if named is None and (where.config / "config.toml").exists():
        named = where.config / "config.toml"
    return pipeline.resolve(PlanRequest(where.state, flags(session, {}), named))


def _render(
    session: Session,
    where: Places,
    resolved: ResolvedSettings,
    *,
    socket: bool = True,
    keep_awake: bool = False,
) -> Rendered:
    named = config(session)
    arguments = (*(("--config", str(named)) if named else ()), *_profile(session))
    return render(where, resolved.settings, arguments, socket=socket, keep_awake=keep_awake)


def _profile(session: Session) -> tuple[str, ...]:
    return ("--profile", session.profile) if session.profile else ()


def _no_socket(verb: str) -> SettingsError:
    return SettingsError(
        f"cannot {verb} a socket unit: none for this service manager, [server] host and [gate]",
        hint="a socket unit needs systemd, a numeric address, and [gate] enabled",
    )


def _linger(session: Session, where: Places, *, wanted: bool) -> list[str]:
    if where.manager != "systemd" or where.scope != "user" or linger.lingers():
        return []
    if wanted:
        return linger.enable(programs.run)
    session.say(f"note: {linger.WHY}; qwenctl service install --linger does it")
    return []


def _data(where: Places) -> dict[str, object]:
    both = (where.service, where.socket)
    found = [str(path) for path in both if isinstance(path, Path) and path.exists()]
    return {"manager": where.manager, "scope": where.scope, "files": found, "state": str(paths.state_dir())}
