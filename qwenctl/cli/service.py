"""``qwenctl service``: install, inspect and remove the service that keeps the daemon running."""

import os
import shlex
from pathlib import Path

import click

from qwenctl import paths
from qwenctl.cli import service_wired_limit, via_service
from qwenctl.cli.arguments import config, flags
from qwenctl.cli.group import Group, common
from qwenctl.cli.output import Result, Session
from qwenctl.cli.progress import ProgressView
from qwenctl.cli.reexec import reexecute
from qwenctl.control.state_dir import running
from qwenctl.control.wait import until_ready, until_running
from qwenctl.deploy import pipeline
from qwenctl.deploy.types import PlanRequest, ResolvedSettings
from qwenctl.engine.address import endpoint_address
from qwenctl.errors import ControlError, ExitCode, NotRunningError, SettingsError
from qwenctl.service import command as programs
from qwenctl.service import installed_files, linger, wired_limit
from qwenctl.service.install import Rendered, installed_options, is_current, render, service_of
from qwenctl.service.local_network import notes_of_rpc
from qwenctl.service.places import Places, Scope, installed, places, usual_scope
from qwenctl.settings.load import API_KEY, api_keys

NO_KEYS = (
    f"the service does not get {API_KEY}, because other users can read its unit; "
    "put the keys into a file, set [server] api_key_file to it, and install again"
)
BREW_STOP = "brew services stop qwenctl ends and removes it"
STALE = "its files differ from what qwenctl service install would write now"
SCOPE = click.option(
    "--user/--system",
    "user",
    default=None,
    help="The service of this user, or of the machine (needs root). "
    "Default: the one that is installed, else --system for root and --user for others.",
)


@click.group("service", cls=Group, epilog="Example: qwenctl service install --user --wait")
@common
def command() -> None:
    """Install, inspect or remove the service that keeps the daemon running."""


@command.command("install", epilog="Example: sudo qwenctl service install --system --wait --json")
@common
@SCOPE
@click.option("--start/--no-start", default=True, help="Also start the service now (default).")
@click.option("--wait", is_flag=True, help="Wait for the first token.")
@click.option("--reexec", is_flag=True, help="Put this version in a running daemon's place, with no restart.")
@click.option(
    "--socket/--no-socket",
    "socket",
    default=None,
    help="systemd: also install a socket unit, which holds the port while the daemon restarts. "
    "Default: yes, where it is possible.",
)
@click.option(
    "--linger", "lingering", is_flag=True, help="systemd: run from boot on, not only while you are logged in."
)
@click.option("--keep-awake", is_flag=True, help="macOS: the Mac does not go to sleep while the daemon runs.")
@click.pass_obj
def install(
    session: Session,
    /,
    *,
    user: bool | None,
    socket: bool | None,
    **switches: bool,
) -> Result:
    """Install the service, or bring it up to date. A second run changes nothing."""
    where, keys = places(_scope(user=user)), api_keys()
    switches["keep_awake"] |= _keep_options(session, where)
    resolved = _resolve(session, where)
    with_socket = socket is not False
    rendered = _render(session, where, resolved, socket=with_socket, keep_awake=switches["keep_awake"])
    if socket and rendered.socket is None:
        raise _no_socket("install")
    via_service.check_alone(where)
    if switches["start"]:
        via_service.check_free(where, endpoint_address(resolved.settings))
    keeps = switches["reexec"] and running(where.state) is not None
    started: via_service.ManagedStart | None = None
    if switches["wait"] and switches["start"]:
        afresh = not keeps and installed_files.current(where.service) != rendered.service
        started = via_service.ManagedStart(where, afresh=afresh)
    changes = _install(where, rendered, start=switches["start"], keeps=keeps)
    for note in notes_of_rpc(resolved.settings.server.rpc) if where.manager == "launchd" else ():
        session.say(f"note: {note}")
    changes += _linger(session, where, wanted=switches["lingering"])
    for change in changes:
        session.say(change)
    if keys:
        session.say(f"warning: {NO_KEYS}")
    endpoint = f"{endpoint_address(resolved.settings).url}/v1"
    if started is not None:
        until_running(where.state, ended=started.refusal)
        with ProgressView(session) as watch:
            limit_s = resolved.settings.supervise.ready_timeout_s
            endpoint = str(until_ready(where.state, limit_s, watch, ended=started.end)["endpoint"])
    data = _data(where) | {"changed": bool(changes), "changes": changes, "endpoint": endpoint}
    return Result(data, "installed" if changes else "already installed; nothing changed")


@command.command("uninstall", epilog="Example: qwenctl service uninstall --user")
@common
@SCOPE
@click.pass_obj
def uninstall(session: Session, *, user: bool | None) -> Result:
    """Stop and remove the service. Models and settings stay."""
    where = _found(user=user)
    if where.of_homebrew:
        raise ControlError(f"cannot uninstall: Homebrew owns {where.service}", hint=BREW_STOP)
    changes = service_of(where).uninstall()
    if changes:
        changes += installed_files.remove_leftovers(where.state)
    changes += _drop_wired_limit(session, where)
    for change in changes:
        session.say(change)
    data = _data(where) | {"changed": bool(changes), "changes": changes}
    return Result(data, "uninstalled; models and settings stay" if changes else "not installed")


@command.command("status", epilog="Example: qwenctl service status --json")
@common
@SCOPE
@click.pass_obj
def status(session: Session, *, user: bool | None) -> Result:
    """Show the state of the service. Exits 3 when it is not running."""
    where = _found(user=user)
    if not where.service.exists():
        raise NotRunningError(
            f"cannot show the service: not installed ({where.service})", hint="qwenctl service install"
        )
    state = service_of(where).look()
    try:
        current, stale = is_current(where, _resolve(session, where).settings), STALE
    except SettingsError as error:
        current, stale = False, error.message
    data = _data(where) | {"running": state.running, "current": current, "known": state.known}
    lines = [f"{name:20} {value}" for name, value in state.shown.items() if value]
    if state.fault is not None:
        lines.append(f"{'fault':20} {state.fault}")
    lines.append(f"{'installed as':20} {where.service}")
    if where.of_homebrew:
        lines.append(f"{'installed by':20} Homebrew; {BREW_STOP}")
    if not current:
        lines.append(stale)
    return Result(data, "\n".join(lines), ExitCode.OK if state.running else ExitCode.NOT_RUNNING)


command.add_command(service_wired_limit.command)


@command.command("show", epilog="Example: qwenctl service show --system --socket")
@common
@SCOPE
@click.option("--socket", is_flag=True, help="Print the socket unit instead of the service unit.")
@click.pass_obj
def show(session: Session, *, user: bool | None, socket: bool) -> Result:
    """Print the file that install would write. Changes nothing."""
    where = places(_scope(user=user))
    rendered = _render(session, where, _resolve(session, where))
    text = rendered.socket if socket else rendered.service
    if text is None:
        raise _no_socket("show")
    return Result({"text": text, "path": str(where.socket if socket else where.service)}, text.rstrip("\n"))


def _install(where: Places, rendered: Rendered, *, start: bool, keeps: bool) -> list[str]:
    """Write the files, and start or restart the service, or put this version in its daemon's place.

    ``keeps``: the daemon that runs stays, and re-executes itself.
    """
    found = service_of(where)
    if not keeps:
        return found.install(rendered.service, rendered.socket, start=start)
    changes = found.write(rendered.service, rendered.socket)
    done = reexecute(where.state, rendered.program, None)
    return [*changes, done.text]


def _scope(*, user: bool | None) -> Scope:
    if user is None:
        return usual_scope()
    return "user" if user else "system"


def _drop_wired_limit(session: Session, where: Places) -> list[str]:
    """Remove the job that raises Metal's limit, too, or say who can."""
    if where.manager != "launchd" or wired_limit.kept_mib() is None:
        return []
    if os.geteuid() == 0:
        return wired_limit.drop(programs.run)
    session.say(f"note: {wired_limit.PLACE} stays; sudo qwenctl service wired-limit off removes it")
    return []


def _found(*, user: bool | None) -> Places:
    """Return the places of the installed service, Homebrew's included; else those where ours would be."""
    found = installed()
    if found is not None and (user is None or user is (found.scope == "user")):
        return found
    return places(_scope(user=user))


def _keep_options(session: Session, where: Places) -> bool:
    """Take the options of an earlier install where none are given; return whether it keeps the Mac awake.

    A second install that says nothing changes nothing: without its profile the service would fetch another.
    """
    options, keep_awake = installed_options(where)
    if options and session.config is None and session.profile is None:
        kept = dict(zip(options[::2], options[1::2], strict=False))
        session.config, session.profile = kept.get("--config"), kept.get("--profile")
        session.say(f"note: kept from the install before: {shlex.join(options)}")
    return keep_awake


def _resolve(session: Session, where: Places) -> ResolvedSettings:
    """Check the settings that the service will find, before anything is changed."""
    config_file = config(session)
    if config_file is None and (where.config / "config.toml").exists():
        config_file = where.config / "config.toml"
    return pipeline.resolve(PlanRequest(where.state, flags(session, {}), config_file))


def _render(
    session: Session,
    where: Places,
    resolved: ResolvedSettings,
    *,
    socket: bool = True,
    keep_awake: bool = False,
) -> Rendered:
    config_file = config(session)
    arguments = (*(("--config", str(config_file)) if config_file else ()), *_profile(session))
    return render(where, resolved.settings, arguments, socket=socket, keep_awake=keep_awake)


def _profile(session: Session) -> tuple[str, ...]:
    return ("--profile", session.profile) if session.profile else ()


def _no_socket(verb: str) -> SettingsError:
    return SettingsError(
        f"cannot {verb} a socket unit: it is not possible with these settings",
        hint="a socket unit needs systemd, an IP address in [server] host, and [gate] enabled = true",
    )


def _linger(session: Session, where: Places, *, wanted: bool) -> list[str]:
    if where.manager != "systemd" or where.scope != "user" or linger.lingers():
        return []
    if wanted:
        return linger.enable(programs.run)
    session.say(f"note: {linger.WHY}; qwenctl service install --linger changes that")
    return []


def _data(where: Places) -> dict[str, object]:
    both = (where.service, where.socket)
    files = [str(path) for path in both if isinstance(path, Path) and path.exists()]
    return {"manager": where.manager, "scope": where.scope, "files": files, "state": str(paths.state_dir())}
