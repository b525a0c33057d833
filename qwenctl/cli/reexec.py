"""``qwenctl reexec``: put another version of qwenctl in the place of the running daemon's."""

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from qwenctl import paths
from qwenctl.cli.group import common
from qwenctl.cli.output import Result
from qwenctl.control.call import call
from qwenctl.control.state_dir import read_status, running
from qwenctl.control.wait import READY_TIMEOUT_S, until_reexecuted
from qwenctl.errors import ControlError, NotRunningError, QwenctlError, SettingsError

PREFLIGHT_S = 30.0
"""What the daemon needs beside the wait for its answers: it asks the new program first, for 20 s at most."""
USUAL_WAIT_S = READY_TIMEOUT_S
"""How long the answer may take where the daemon's own settings say how long its answers may run."""


@click.command("reexec", epilog="Example: qwenctl reexec --wait 60")
@common
@click.option(
    "--program",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The qwenctl that takes over. Default: the one that runs this command.",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    metavar="S",
    help="How long answers may run to their end. Default: [gate] drain_timeout_s.",
)
def command(program: Path | None, wait_s: float | None) -> Result:
    """Put another version of qwenctl in the place of the running daemon's, without a restart.

    The daemon keeps its pid, its sockets, its clients, and its server with the model loaded. Requests wait
    meanwhile. If the new version cannot take over, the daemon goes on as it was.
    """
    folder = paths.state_dir()
    if running(folder) is None:
        raise NotRunningError("cannot re-execute: the daemon is not running", hint="qwenctl up starts it")
    return reexecute(folder, words_of(program), wait_s)


def words_of(program: Path | None) -> tuple[str, ...]:
    """Return the words that start a program; None: the one that runs this command.

    Raises:
        SettingsError: there is no such program.
    """
    if program is None:
        return (sys.executable, *(("-P",) if sys.flags.safe_path else ()), "-m", "qwenctl")
    path = program.expanduser().absolute()
    if not path.is_file():
        raise SettingsError(
            f"cannot use --program {program}: no such file", hint="name qwenctl's own program"
        )
    return (str(path),)


def reexecute(folder: Path, words: tuple[str, ...], wait_s: float | None) -> Result:
    """Ask the daemon, wait until another program answers for it, and say what came of it.

    Raises:
        QwenctlError: the daemon goes on as it was; the message says why.
    """
    before = read_status(folder) or {}
    timeout_s = PREFLIGHT_S + (USUAL_WAIT_S if wait_s is None else wait_s)
    try:
        answer = call(folder, "POST", "/v1/reexec", {"program": words, "wait_s": wait_s}, timeout_s)
    except QwenctlError as error:
        if error.message.startswith("cannot POST /v1/reexec"):
            raise ControlError(
                f"cannot re-execute: the daemon is version {before.get('version')}, which knows no reexec",
                hint="qwenctl down, then qwenctl up",
            ) from error
        raise
    number = answer.get("number") if isinstance(answer, dict) else None
    if not isinstance(number, int):
        raise ControlError("cannot re-execute: the daemon gave no answer", hint="qwenctl status shows it")
    status = until_reexecuted(folder, number, before.get("daemon_pid"))
    done = status.get("reexec")
    done = done if isinstance(done, dict) else {}
    if done.get("error") is not None:
        again = "" if done.get("child_kept") else ", and the server was started again"
        raise ControlError(
            f"cannot re-execute: {done['error']}; version {status.get('version')} runs{again}",
            hint="qwenctl logs --daemon shows what the new program said",
        )
    data = {
        "from": done.get("before"),
        "to": done.get("to"),
        "waited_s": done.get("waited_s"),
        "child_kept": done.get("child_kept"),
        "pid": status.get("daemon_pid"),
        "server_pid": status.get("pid"),
    }
    return Result(data, _said(data))


def _said(data: Mapping[str, object]) -> str:
    server = data["server_pid"]
    if not data["child_kept"]:
        kept = "the server was started again"
    elif server is None:
        kept = "no server runs"
    else:
        kept = f"the server kept its model (pid {server})"
    waited = data["waited_s"]
    waited_s = f"{waited:.1f}" if isinstance(waited, int | float) else "?"
    return (
        f"qwenctl {data['to']} runs now (was {data['from']}), pid {data['pid']}; "
        f"{kept}, clients waited {waited_s} s"
    )
