"""``qwenctl status``: show what the daemon is doing. Without options ``main`` runs it without click."""

import json
import sys
import time

import click

from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.cli.status_text import look
from qwenctl.errors import NotRunningError

POLL_S = 0.2
CLEAR = "\x1b[H\x1b[2J"


@click.command("status", epilog="Example: qwenctl status --json")
@common
@click.option("-w", "--watch", is_flag=True, help="Show the status again after each change, until Ctrl-C.")
@click.pass_obj
def command(session: Session, *, watch: bool) -> Result:
    """Show what the daemon is doing. Exits 0 when ready or idle, 7 otherwise, 3 without a daemon."""
    status = look(session)
    if not watch:
        return status
    shown_data: object = None
    while True:
        if status.data != shown_data:
            shown_data = status.data
            _show(session, status)
        time.sleep(POLL_S)
        try:
            status = look(session)
        except NotRunningError as error:
            status = Result(None, error.message)


def _show(session: Session, status: Result) -> None:
    """Print a status. On a terminal it replaces the last one."""
    clear = CLEAR if sys.stdout.isatty() and not session.json else ""
    click.echo(json.dumps(status.data) if session.json else f"{clear}{status.text}")
