"""``qwenctl logs``: print the server's log, or the daemon's. Reads files: no daemon is needed."""

import json
import time
from pathlib import Path

import click

from qwenctl import paths
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.control.log_reader import LogReader
from qwenctl.control.state_dir import DAEMON_LOG, LAUNCHD_LOG, SERVER_LOG
from qwenctl.errors import NotRunningError
from qwenctl.service.places import installed, journal

POLL_S = 0.2


@click.command("logs", epilog="Example: qwenctl logs -f")
@common
@click.option(
    "-n", "count", type=click.IntRange(min=0), default=100, metavar="N", help="Print the last N lines (100)."
)
@click.option("-f", "--follow", is_flag=True, help="Print new lines until Ctrl-C.")
@click.option("--daemon", is_flag=True, help="Show the log of the daemon, not that of the server.")
@click.pass_obj
def command(session: Session, count: int, *, follow: bool, daemon: bool) -> Result:
    """Show the last lines of the server's log, or of the daemon's."""
    folder = paths.log_dir(paths.state_dir())
    path = _daemon_log(session, folder) if daemon else _server_log(folder)
    follower = LogReader(path)
    lines = follower.last(count)
    if not follow:
        follower.close()
        return Result({"lines": lines}, "\n".join(lines))
    while True:
        for line in lines:
            click.echo(json.dumps({"line": line}) if session.json else line)
        time.sleep(0 if lines else POLL_S)
        lines = follower.more()


def _server_log(folder: Path) -> Path:
    path = folder / SERVER_LOG
    if not path.exists():
        raise NotRunningError(
            f"cannot show logs: no server has run yet ({path})",
            hint="qwenctl up starts one; qwenctl service status shows the state of a service",
        )
    return path


def _daemon_log(session: Session, folder: Path) -> Path:
    """Return the file of the daemon's log. A service of systemd has none: the journal has it."""
    service = installed()
    in_journal = journal(service.scope) if service is not None and service.manager == "systemd" else None
    for name in (DAEMON_LOG, LAUNCHD_LOG):
        if (folder / name).exists():
            if in_journal is not None:
                session.say(f"note: the service's daemon logs elsewhere; {in_journal} shows it")
            return folder / name
    if in_journal is not None:
        raise NotRunningError(
            "cannot show the daemon's log: it is in the journal of systemd", hint=f"{in_journal} shows it"
        )
    raise NotRunningError(
        f"cannot show the daemon's log: no daemon has written one ({folder / DAEMON_LOG})",
        hint="qwenctl up starts a daemon that does; qwenctl run prints it",
    )
