"""``qwenctl down``: stop the server and the daemon."""

import contextlib
import os
import signal
from pathlib import Path

import click

from qwenctl import paths
from qwenctl.cli import via_service
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.control.call import call
from qwenctl.control.state_dir import CHILD, STATUS, lock, read_status, running
from qwenctl.control.wait import until_gone
from qwenctl.errors import AlreadyRunningError, ControlError
from qwenctl.supervise.identity import left_over, reap

USUAL_S = 60.0
"""How long to wait for a daemon that does not say how long its own settings allow."""
GRACE_S = 5.0


@click.command("down", epilog="Example: qwenctl down")
@common
@click.pass_obj
def command(session: Session) -> Result:
    """Stop the server and the daemon. Succeeds if nothing is running."""
    folder = paths.state_dir()
    patience_s = _patience_s(folder)
    stopped = via_service.stop(session)  # with its socket, which would start it again
    pid = running(folder)
    if pid is None:
        reaped = _reap(session, folder)
        return Result({"changed": stopped or reaped}, "stopped" if stopped or reaped else "not running")
    try:
        call(folder, "POST", "/v1/down")
    except ControlError:
        session.say(f"the daemon does not answer; ending it (pid {pid})")
        _end(pid, signal.SIGTERM)
    if not until_gone(folder, patience_s):
        session.say(f"the daemon did not end within {patience_s:g} s; killing it (pid {pid})")
        _end(pid, signal.SIGKILL)
        if not until_gone(folder, GRACE_S):
            raise ControlError(f"cannot end the daemon: pid {pid} does not die")
    _reap(session, folder)  # it may have died before it could end its server
    return Result({"changed": True}, "stopped")


def _patience_s(folder: Path) -> float:
    """Return how long the daemon's own settings let a stop take: drain, save, stop the server, close."""
    stop_s = (read_status(folder) or {}).get("stop_timeout_s")
    return float(stop_s) if isinstance(stop_s, int | float) else USUAL_S


def _reap(session: Session, folder: Path) -> bool:
    """End the server of a daemon that was killed, where it outlived that daemon. Return whether it did."""
    if not (folder / CHILD).exists():
        return False
    try:
        held = lock(folder)
    except AlreadyRunningError:
        return False  # a daemon has just started: it does the same
    with held:
        leftover = left_over(folder / CHILD)
        if leftover is not None:
            session.say(f"ending the server of a daemon that was killed (pid {leftover.pid})")
            reap(leftover)
        for name in (STATUS, CHILD):
            with contextlib.suppress(OSError):
                (folder / name).unlink()
    return leftover is not None


def _end(pid: int, number: signal.Signals) -> None:
    """Signal the holder of the lock; it wrote its pid there itself, and the lock shows that it lives."""
    if pid > 0:
        os.kill(pid, number)
