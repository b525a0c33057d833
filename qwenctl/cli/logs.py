"""``qwenctl logs``: what the server printed. Reads files, so it works when the daemon hangs or is gone."""

import json
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import click

from qwenctl import paths
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.control.folder import SERVER_LOG
from qwenctl.errors import NotRunningError

POLL_S = 0.2


@click.command("logs", epilog="Example: qwenctl logs -f")
@common
@click.option("-n", "count", type=click.IntRange(min=0), default=100, metavar="N", help="How many lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing until Ctrl-C.")
@click.pass_obj
def command(session: Session, count: int, follow: bool) -> Result:  # noqa: FBT001 - click passes it by name
    """Show the last lines that the server printed."""
    path = paths.state_dir() / SERVER_LOG
    if not path.exists():
        raise NotRunningError(
            f"cannot show logs: no server has run yet ({path})", hint="qwenctl up starts one"
        )
    last = deque(_read(path), maxlen=count)
    if not follow:
        return Result({"lines": list(last)}, "\n".join(last))
    for line in (*last, *_follow(path)):
        click.echo(json.dumps({"line": line}) if session.json else line)
    return Result(None)


def _read(path: Path) -> Iterator[str]:
    older = path.with_name(f"{path.name}.1")
    for part in (older, path):
        if part.exists():
            with part.open(encoding="utf-8", errors="replace") as file:
                yield from (line.rstrip("\n") for line in file)


def _follow(path: Path) -> Iterator[str]:
    """Yield new lines for ever; a rotated file is read to its end before the new one."""
    file = path.open(encoding="utf-8", errors="replace")
    file.seek(0, 2)
    while True:
        rotated = not path.exists() or path.stat().st_ino != Path(f"/dev/fd/{file.fileno()}").stat().st_ino
        yield from (line.rstrip("\n") for line in file)
        if rotated and path.exists():
            file.close()
            file = path.open(encoding="utf-8", errors="replace")
        else:
            time.sleep(POLL_S)
