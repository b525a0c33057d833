"""``qwenctl events``: print the event log. Reads files, so it works without a daemon, too."""

import json
import time

import click

from qwenctl import paths
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.control.log_reader import LogReader
from qwenctl.control.state_dir import EVENTS
from qwenctl.errors import NotRunningError

POLL_S = 0.2
LONG = ("log_tail",)
"""Fields that are not shown here: qwenctl logs shows them."""


@click.command("events", epilog="Example: qwenctl events -f")
@common
@click.option(
    "-n", "count", type=click.IntRange(min=0), default=50, metavar="N", help="Print the last N events (50)."
)
@click.option("-f", "--follow", is_flag=True, help="Print new events until Ctrl-C.")
@click.pass_obj
def command(session: Session, count: int, *, follow: bool) -> Result:
    """Show what happened to the server, and why."""
    path = paths.state_dir() / EVENTS
    if not path.exists():
        raise NotRunningError(
            f"cannot show events: no daemon has run yet ({path})", hint="qwenctl up starts one"
        )
    follower = LogReader(path)
    last = [event for event in map(_parse, follower.last(count)) if event]
    if not follow:
        follower.close()
        return Result({"events": last}, "\n".join(map(_line, last)))
    while True:
        for event in last:
            click.echo(json.dumps(event) if session.json else _line(event))
        time.sleep(0 if last else POLL_S)
        last = [event for event in map(_parse, follower.more()) if event]


def _parse(line: str) -> dict[str, object]:
    """Return the event of one line; an empty one where a full disk cut the line."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _line(event: dict[str, object]) -> str:
    fields = {name: value for name, value in event.items() if name not in ("at", "event", *LONG)}
    pairs = (f"{name}={_short(value)}" for name, value in fields.items() if value not in (None, False))
    return " ".join((str(event.get("at")), str(event.get("event")), *pairs))


def _short(value: object) -> str:
    """Return a value for people: a number with a fraction is rounded to three digits."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
