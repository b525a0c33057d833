"""``qwenctl run``: the daemon in the foreground."""

import json
import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path

import click

from qwenctl import __version__, paths
from qwenctl.cli.arguments import config, flags
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.control.log_files import bound_output, place
from qwenctl.control.state_dir import DAEMON_LOG
from qwenctl.daemon.adoption import Adoption
from qwenctl.daemon.daemon import LOG_LINE, LOG_TIME, start
from qwenctl.daemon.new_program import is_launchd_job
from qwenctl.deploy.types import PlanRequest

LOG_BYTES = 10 << 20
STDERR = 2


@click.command("run", epilog="Example: qwenctl run --profile demo")
@common
@click.option("--log", type=click.Path(path_type=Path), metavar="FILE", help="Log there, rotated at 10 MiB.")
@click.option("--overrides", metavar="JSON", hidden=True, help="The flags of up, as a JSON table.")
@click.option("--keep-awake", is_flag=True, help='The same as keep_awake = "serving" in [server].')
@click.option("--handover", type=int, metavar="FD", hidden=True, help="Take over the state there.")
@click.option("--check-handover", type=int, metavar="FD", hidden=True, help="Say whether it can be.")
@click.pass_obj
def command(
    session: Session,
    /,
    *,
    log: Path | None,
    overrides: str | None,
    keep_awake: bool,
    handover: int | None,
    check_handover: int | None,
) -> Result:
    """Run the daemon in the foreground: what services execute. Ctrl-C ends it."""
    if check_handover is not None:
        known = Adoption.of(check_handover).handover
        return Result({"version": __version__, "takes_over": True, "schema": known.schema}, "yes")
    folder = paths.state_dir()
    if is_launchd_job():
        bound_output(STDERR)
        log = log or paths.log_dir(folder) / DAEMON_LOG  # Homebrew's job names no file
    if log is not None:
        log_to(place(folder, log))
    kept = None if overrides is None or handover is not None else json.loads(overrides)
    given = flags(session, {"server.keep_awake": "serving" if keep_awake else None}, anew=True)
    start(PlanRequest(folder, given, config(session), kept), handover)
    return Result({"ended": True})


def log_to(path: Path, max_bytes: int = LOG_BYTES) -> None:
    """Rotate ourselves: launchd never does, and a detached daemon has nobody else."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = RotatingLog(path, maxBytes=max_bytes, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter(LOG_LINE, LOG_TIME))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(handler)


class RotatingLog(RotatingFileHandler):
    """A log whose file may be this process's stderr too: then stderr goes on in the new file.

    Else a traceback would go to an old one, and be lost with it.
    """

    def doRollover(self) -> None:  # noqa: N802 - logging's name
        """Begin a new file."""
        shared = self.stream is not None and os.path.samestat(
            os.fstat(STDERR), os.fstat(self.stream.fileno())
        )
        super().doRollover()
        if shared and self.stream is not None:
            os.dup2(self.stream.fileno(), STDERR)
