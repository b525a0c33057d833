"""``qwenctl up``: start the server, keep it up, and wait for its first token."""

from collections.abc import Mapping
from pathlib import Path

import click

from qwenctl import __version__, paths
from qwenctl.cli import via_service
from qwenctl.cli.arguments import config, flags, model_argument, request
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.cli.progress import ProgressView
from qwenctl.cli.reexec import reexecute, words_of
from qwenctl.cli.status_text import other_version
from qwenctl.control.call import call
from qwenctl.control.start import StartedDaemon, start_daemon
from qwenctl.control.state_dir import (
    CONTROL_SOCKET,
    forget_refused,
    read_overrides,
    read_status,
    running,
)
from qwenctl.control.wait import unknown, until_planned, until_ready, until_running
from qwenctl.errors import ControlError, ExitCode, QwenctlError
from qwenctl.settings.load import API_KEY, absolute_environment, api_keys, merge

UNASKED = (
    f"the daemon was started without {API_KEY} and asks for no key: qwenctl down, then up starts it with it; "
    "a service needs [server] api_key_file"
)


@click.command("up", epilog="Example: qwenctl up smollm.gguf --port 9000")
@common
@model_argument
@click.option("--quant", metavar="Q", help="A quant of the model, instead of the best that fits.")
@click.option("--ctx", type=int, metavar="N", help="Context of each slot, in tokens.")
@click.option("--port", type=int, metavar="N", help="Port of the endpoint.")
@click.option("--cpu", is_flag=True, help="Run on the processor on purpose, whatever card there is.")
@click.option("--yes", is_flag=True, help="Install an engine without asking, where none is usable.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the first token.")
@click.option("--timeout", type=float, metavar="S", help="How long to wait for it, after any download.")
@click.option("--reexec", is_flag=True, help="Put this version in a running daemon's place first.")
@click.option("--reset", is_flag=True, help="Forget the flags of earlier ups.")
@click.option(
    "--forget", is_flag=True, help="Forget what did not work here, models and engines; try the best."
)
@click.pass_obj
def command(
    session: Session,
    /,
    model: str | None,
    quant: str | None,
    ctx: int | None,
    port: int | None,
    timeout: float | None,
    **switches: bool,
) -> Result:
    """Start the server, keep it up, and wait for its first token.

    MODEL is a profile, a GGUF file, or OWNER/REPO[:QUANT] of the hub. Default: the profile of the settings.
    MODEL and flags are kept until --reset: the next up, and the service, use them again.
    """
    given: dict[str, object] = {"model.quant": quant, "context.tokens": ctx, "server.port": port}
    given |= {"hardware.gpu": "off"} if switches["cpu"] else {}
    wanted = flags(session, given, model, anew=switches["reset"])
    try:
        return _up(session, wanted, timeout, **switches)
    except QwenctlError as error:
        away = isinstance(error.data, dict) and error.data.get("away")
        if error.exit_code != ExitCode.NO_SERVER or away:  # no other engine helps a card that does not answer
            raise
        from qwenctl.cli.offer_engine import offer_engine
        from qwenctl.deploy.pipeline import resolve_without_model

        settings = resolve_without_model(request(session, given, model)).settings
        offer_engine(session, settings, error, yes=switches["yes"])
    return _up(session, wanted, timeout, **switches)


def _up(session: Session, wanted: Mapping[str, object], timeout: float | None, **switches: bool) -> Result:
    keys, folder = api_keys(), paths.state_dir()
    paths.socket_path(folder, CONTROL_SOCKET)
    paths.private_dir(folder)
    before = _running_before(session, folder, change_program=switches["reexec"])
    asked = switches["reset"] or switches["forget"] or _asks(folder, wanted, before) or _is_file(wanted)
    with ProgressView(session) as view:
        started, ended = None, unknown
        if before:
            if not asked and before.get("phase") == "failed":
                call(folder, "POST", "/v1/restart")  # a parked server tries again
        elif (managed := via_service.start(config(session))) is not None:
            until_running(folder, ended=managed.refusal)
            ended = managed.end
        else:
            started = _start(session, folder, wanted, **switches)
            ended = started.refusal
        change = _apply(folder, wanted, **switches) if asked and started is None else None
        change = 1 if started is not None else change  # the first wish of a daemon
        status = read_status(folder) or {}
        if change is not None:
            status = until_planned(folder, change, view, ended)
            _tell_plan(session, status)
        if not switches["no_wait"]:
            status = until_ready(folder, timeout, view, change=change, ended=ended)
            for trouble in _texts(status.get("troubles")):
                session.say(f"warning: {trouble}")
        if started is not None:
            started.leave()
    if keys and status.get("asks_key") is False:
        session.say(f"warning: {UNASKED}")
    plan, endpoint = status.get("plan"), status.get("endpoint")
    name = plan["profile"] if isinstance(plan, dict) else None
    changed = not before or (change is not None and status.get("pid") != before.get("pid"))
    data = {"changed": changed, "change": change, "endpoint": endpoint, "profile": name}
    return Result(data, str(endpoint or "no endpoint yet"))


def _running_before(session: Session, folder: Path, *, change_program: bool) -> dict[str, object]:
    """Return the status of the daemon that runs, if one does. Another version is replaced, or told of."""
    if running(folder) is None:
        return {}
    if change_program:
        session.say(reexecute(folder, words_of(None), None).text)
    before = read_status(folder) or {}
    if before.get("version") not in (None, __version__):
        session.say(f"note: {other_version(before)}")
    return before


def _start(session: Session, folder: Path, wanted: Mapping[str, object], **switches: bool) -> StartedDaemon:
    """Start a daemon of our own; the flags are its first wish."""
    if switches["forget"]:
        forget_refused(folder)
    kept = {} if switches["reset"] else read_overrides(folder)
    named = config(session)
    arguments = ["--config", str(named)] if named else []
    return start_daemon(folder, arguments, merge(kept, wanted), absolute_environment())


def _apply(folder: Path, wanted: Mapping[str, object], **switches: bool) -> int:
    """Hand the flags to the daemon that runs. Return the number of the change."""
    body = {"flags": wanted, "reset": switches["reset"], "forget": switches["forget"]}
    answer = call(folder, "POST", "/v1/apply", body)
    number = answer.get("change") if isinstance(answer, dict) else None
    if not isinstance(number, int):
        raise ControlError(
            "cannot change what is served: the daemon is of another version",
            hint="qwenctl reexec puts this version in its place; an old one needs qwenctl down, then up",
        )
    return number


def _asks(folder: Path, wanted: Mapping[str, object], before: Mapping[str, object]) -> bool:
    """Return whether the flags say something else than what is settled already."""
    kept, change = read_overrides(folder), before.get("change")
    settled = isinstance(change, dict) and change.get("state") == "settled"
    return bool(wanted) and not (settled and merge(kept, wanted) == kept)


def _is_file(wanted: Mapping[str, object]) -> bool:
    """Return whether a file is named: it may be another one by now, under the same name."""
    model = wanted.get("model")
    return isinstance(model, dict) and model.get("path") is not None


def _tell_plan(session: Session, status: dict[str, object]) -> None:
    plan = status.get("plan")
    if isinstance(plan, dict):
        session.say(f"starting {plan.get('title') or plan['profile']}, {plan['quant']}")
        for warning in _texts(plan.get("warnings")):
            session.say(f"warning: {warning}")


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list | tuple) else []
