"""``qwenctl restart``: start the server afresh."""

import click

from qwenctl import paths
from qwenctl.cli import via_service
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.cli.progress import ProgressView
from qwenctl.control.call import call
from qwenctl.control.state_dir import read_status, running
from qwenctl.control.wait import unknown, until_ready, until_running
from qwenctl.errors import NotRunningError

TIMEOUT_S = 600.0


@click.command("restart", epilog="Example: qwenctl restart")
@common
@click.option("--no-wait", is_flag=True, help="Do not wait for the first token.")
@click.pass_obj
def command(session: Session, no_wait: bool) -> Result:  # noqa: FBT001 - click passes it by name
    """Start the server afresh and wait for its first token."""
    folder = paths.state_dir()
    before, ended = read_status(folder) or {}, unknown
    if running(folder) is not None:
        call(folder, "POST", "/v1/restart")
    elif (managed := via_service.restart()) is not None:
        if not no_wait:
            until_running(folder, ended=managed.refusal)
        ended = managed.end
    else:
        raise NotRunningError("cannot restart: the daemon is not running", hint="qwenctl up starts it")
    endpoint = before.get("endpoint")
    if not no_wait:
        with ProgressView(session) as watch:
            status = until_ready(folder, TIMEOUT_S, watch, not_pid=before.get("pid"), ended=ended)
            endpoint = status["endpoint"]
    return Result({"changed": True, "endpoint": endpoint}, str(endpoint))
