"""``qwenctl run``: the daemon in the foreground."""

import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path

import click

from qwenctl.cli.asked import request
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.control.daemon import start
from qwenctl.service import command as programs

LOG_BYTES = 10 << 20
KEEP_AWAKE = ("caffeinate", "-i", "-w")
"""Source: caffeinate(8): no idle sleep until the process that -w names ends."""


@click.command("run", epilog="Example: qwenctl run --profile demo")
@common
@click.option("--log", type=click.Path(path_type=Path), metavar="FILE", help="Log there, rotated at 10 MiB.")
@click.option("--keep-awake", is_flag=True, help="macOS: no idle sleep while it runs.")
@click.pass_obj
def command(session: Session, log: Path | None, keep_awake: bool) -> Result:  # noqa: FBT001 - click's name
    """Run the daemon in the foreground: what services execute. Ctrl-C ends it."""
    if log is not None:
        _log_to(log)
    if keep_awake:
        programs.start((*KEEP_AWAKE, str(os.getpid())))
    start(request(session, {}))
    return Result({"ended": True})


def _log_to(path: Path) -> None:
    """Rotate ourselves: launchd never does."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(handler)
