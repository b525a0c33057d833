"""``qwenctl run``: the daemon in the foreground."""

import click

from qwenctl.cli.asked import request
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.control.daemon import start


@click.command("run", epilog="Example: qwenctl run --profile demo")
@common
@click.pass_obj
def command(session: Session) -> Result:
    """Run the daemon in the foreground: what services execute. Ctrl-C ends it."""
    start(request(session, {}))
    return Result({"ended": True})
