"""``qwenctl down``: stop the server and the daemon."""

import os
import signal

import click

from qwenctl import paths
from qwenctl.cli import via_service
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.control.call import call
from qwenctl.control.state_dir import running
from qwenctl.control.wait import until_gone
from qwenctl.errors import ControlError

PATIENCE_S = 60.0
GRACE_S = 5.0


@click.command("down", epilog="Example: qwenctl down")
@common
@click.pass_obj
def command(session: Session) -> Result:
    """Stop the server and the daemon. Done already is done too."""
    folder = paths.state_dir()
    stopped = via_service.stop(session)  # with its socket, which would start it again
    pid = running(folder)
    if pid is None:
        return Result({"changed": stopped}, "stopped" if stopped else "not running")
    try:
        call(folder, "POST", "/v1/down")
    except ControlError:
        session.say(f"the daemon does not answer; ending it (pid {pid})")
        _end(pid, signal.SIGTERM)
    if not until_gone(folder, PATIENCE_S):
        _end(pid, signal.SIGKILL)
        if not until_gone(folder, GRACE_S):
            raise ControlError(f"cannot end the daemon: pid {pid} does not die")
    return Result({"changed": True}, "stopped")


def _end(pid: int, number: signal.Signals) -> None:
    """Signal the holder of the lock; it wrote its pid there itself, and the lock shows that it lives."""
    if pid > 0:
        os.kill(pid, number)
