"""``qwenctl logs``: print the server's log. Reads files, so it works without a daemon, too."""

import json
import time

import click

from qwenctl import paths
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.control.log_reader import LogReader
from qwenctl.control.state_dir import SERVER_LOG
from qwenctl.errors import NotRunningError

POLL_S = 0.2


@click.command("logs", epilog="Example: qwenctl logs -f")
@common
@click.option(
    "-n", "count", type=click.IntRange(min=0), default=100, metavar="N", help="Print the last N lines (100)."
)
@click.option("-f", "--follow", is_flag=True, help="Print new lines until Ctrl-C.")
@click.pass_obj
def command(session: Session, count: int, *, follow: bool) -> Result:
    """Show the last lines of the server's log."""
    path = paths.state_dir() / SERVER_LOG
    if not path.exists():
        raise NotRunningError(
            f"cannot show logs: no server has run yet ({path})",
            hint="qwenctl up starts one; qwenctl service status shows the state of a service",
        )
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
