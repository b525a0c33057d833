"""``qwenctl status``: what the daemon is doing. The bare form goes past click, see main."""

import click

from qwenctl.cli.glance import look
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session


@click.command("status", epilog="Example: qwenctl status --json")
@common
@click.pass_obj
def command(session: Session) -> Result:
    """Show what the daemon is doing. Exits 0 when ready or idle, 7 otherwise, 3 without a daemon."""
    return look(session)
