"""``qwenctl status``: what the daemon is doing. The bare form goes past click, see main."""

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
@click.option("-w", "--watch", is_flag=True, help="Show every change until Ctrl-C.")
@click.pass_obj
def command(session: Session, watch: bool) -> Result:  # noqa: FBT001 - click passes it by name
    """Show what the daemon is doing. Exits 0 when ready or idle, 7 otherwise, 3 without a daemon."""
    seen = look(session)
    if not watch:
        return seen
    shown: object = None
    while True:
        if seen.data != shown:
            shown = seen.data
            _show(session, seen)
        time.sleep(POLL_S)
        try:
            seen = look(session)
        except NotRunningError as error:
            seen = Result(None, error.message)


def _show(session: Session, seen: Result) -> None:
    """Print a status: on a terminal in place of the last one, elsewhere below it."""
    clear = CLEAR if sys.stdout.isatty() and not session.json else ""
    click.echo(json.dumps(seen.data) if session.json else f"{clear}{seen.text}")
