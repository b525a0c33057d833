"""``qwenctl up``: start the server, keep it up, and wait for its first token."""

from collections.abc import Mapping
from pathlib import Path

import click

from qwenctl import paths
from qwenctl.cli import via_service
from qwenctl.cli.arguments import config, flags
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.cli.progress import ProgressView
from qwenctl.control.call import call
from qwenctl.control.start import start_daemon
from qwenctl.control.state_dir import (
    CONTROL_SOCKET,
    OVERRIDES,
    read_overrides,
    read_status,
    running,
)
from qwenctl.control.wait import until_ready
from qwenctl.deploy import model_file, oom_record, pipeline
from qwenctl.deploy.address import address, check_address
from qwenctl.deploy.types import PlanRequest
from qwenctl.files import write_json
from qwenctl.settings.load import API_KEY, api_keys, merge

UNASKED = (
    f"the daemon was started without {API_KEY} and asks for no key: qwenctl down, then up starts it with it; "
    "a service needs [server] api_key_file"
)


@click.command("up", epilog="Example: qwenctl up --profile demo --port 9000")
@common
@click.option("--quant", metavar="Q", help="A quant of the profile, instead of the best that fits.")
@click.option("--ctx", type=int, metavar="N", help="Context of each slot, in tokens.")
@click.option("--port", type=int, metavar="N", help="Port of the endpoint.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the first token.")
@click.option("--timeout", type=float, metavar="S", help="How long to wait for it, after any download.")
@click.option("--reset", is_flag=True, help="Forget the flags of earlier ups.")
@click.option("--forget", is_flag=True, help="Forget what ran out of memory here; try the best again.")
@click.pass_obj
def command(
    session: Session,
    /,
    quant: str | None,
    ctx: int | None,
    port: int | None,
    timeout: float | None,
    **switches: bool,
) -> Result:
    """Start the server, keep it up, and wait for its first token.

    Flags are kept until --reset: the next up, and the service, use them again.
    """
    keys, folder = api_keys(), paths.state_dir()
    paths.socket_path(folder, CONTROL_SOCKET)
    paths.private_dir(folder)
    given = flags(session, {"model.quant": quant, "context.tokens": ctx, "server.port": port})
    kept = {} if switches["reset"] else read_overrides(folder)
    wanted = PlanRequest(folder, {}, config(session), merge(kept, given))
    asked = bool(given) or switches["reset"] or switches["forget"]
    changed = _start_or_change(session, wanted, asked=asked, forget=switches["forget"])
    resolved = pipeline.resolve(wanted)
    endpoint = f"{address(resolved.settings).url}/v1"
    if not switches["no_wait"]:
        limit = resolved.settings.supervise.ready_timeout_s if timeout is None else timeout
        with ProgressView(session) as watch:
            status = until_ready(folder, limit, watch, fresh=changed)
        endpoint = str(status["endpoint"])
        troubles = status.get("troubles")
        for trouble in troubles if isinstance(troubles, list) else ():
            session.say(f"warning: {trouble}")
    if keys and (read_status(folder) or {}).get("asks_key") is False:
        session.say(f"warning: {UNASKED}")
    data = {"changed": changed, "endpoint": endpoint, "profile": resolved.profile.name}
    return Result(data, endpoint)


def _start_or_change(session: Session, wanted: PlanRequest, *, asked: bool, forget: bool) -> bool:
    """Start a daemon, or hand the flags to the one that runs. Return whether anything changed."""
    if running(wanted.folder) is not None:
        if not asked:
            return _try_again(wanted.folder)
        body = {"overrides": wanted.overrides, "forget": forget}
        answer = call(wanted.folder, "POST", "/v1/apply", body, timeout_s=600)
        return bool(answer["changed"]) if isinstance(answer, dict) else True
    if forget:
        oom_record.forget(wanted.folder)
    prepared = pipeline.prepare(wanted)
    where = address(prepared.resolved.settings)
    if not via_service.holds_port(where):
        check_address(where)
    if via_service.service() is None:  # a service has its own keys
        from qwenctl.daemon.gateway import check

        check(prepared.resolved.settings, api_keys())
    if model_file.is_local(prepared.resolved):
        pipeline.spec(prepared, model_file.obtain_local(prepared))
    _keep(wanted.folder, wanted.overrides or {})
    session.say(f"starting {prepared.resolved.profile.title}, {prepared.plan.quant}")
    for warning in (*prepared.hardware.warnings, *prepared.plan.warnings):
        session.say(f"warning: {warning}")
    if not via_service.start(session, wanted.config):
        start_daemon(wanted.folder, ["--config", str(wanted.config)] if wanted.config else [])
    return True


def _try_again(folder: Path) -> bool:
    """Ask a parked server to try again; leave any other alone. Return whether it was asked."""
    parked = (read_status(folder) or {}).get("phase") == "failed"
    if parked:
        call(folder, "POST", "/v1/restart")
    return parked


def _keep(folder: Path, overrides: Mapping[str, object]) -> None:
    if overrides != read_overrides(folder):
        write_json(folder / OVERRIDES, overrides)
