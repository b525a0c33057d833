"""``qwenctl solve``: let the model write code until its tests pass."""

import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.cli.target import UNSAFE, endpoint, target
from qwenctl.errors import ExitCode, SettingsError

if TYPE_CHECKING:
    from qwenctl.client.solve import Round

SAID = 300


@click.command(
    "solve", epilog='Example: qwenctl solve "A function f(n): the n-th prime" --tests test_f.py --out f'
)
@common
@endpoint
@click.argument("task")
@click.option(
    "--tests",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    metavar="FILE",
    help="Tests that must pass; the model sees them. Again for more files.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where everything is kept."
)
@click.option("--run", "shell", metavar="CMD", help="What runs the tests, instead of Python. 0 is passed.")
@click.option("--iterations", type=click.IntRange(1, 50), default=5, metavar="N", help="Most tries (5).")
@click.option("--unsafe", is_flag=True, help=UNSAFE)
@click.pass_obj
def command(
    session: Session,
    /,
    url: str | None,
    api_key_file: Path | None,
    task: str,
    tests: tuple[Path, ...],
    out: Path,
    **options: object,
) -> Result:
    """Let the model write code for TASK (- reads it from stdin) until the tests pass.

    The code runs in a sandbox. Each round's prompt, answer, code, output and verdict are kept in the folder.
    Exits 1 when no round passes.
    """
    from qwenctl.client.sandbox.sandbox import SandboxLimits, isolation, unavailable
    from qwenctl.client.solve import Task, python_task, solve
    from qwenctl.errors import SandboxError

    iterations, shell = options["iterations"], options["shell"]
    assert isinstance(iterations, int)  # noqa: S101 - click made it one
    text = sys.stdin.read() if task == "-" else task
    given = _read(tests)
    isolated = isolation(unsafe=bool(options["unsafe"]))
    if isolated == "sandbox" and (why := unavailable()) is not None:
        raise SandboxError(why, hint="--unsafe runs the code with time and memory limits only")
    if isolated == "limits":
        session.say("warning: no sandbox here; the code runs with time and memory limits only")
    if isinstance(shell, str):
        wanted = Task(text, given, tuple(shlex.split(shell)), "", iterations, SandboxLimits(), isolated)
    else:
        wanted = python_task(text, given, iterations, SandboxLimits(), isolated)
    with target(session, url, api_key_file).api() as api:
        rounds = solve(api, wanted, out, lambda done: _say(session, done), time.sleep)
    passed = rounds[-1].verdict == "passed"
    data = {
        "passed": passed,
        "folder": str(out),
        "files": sorted(rounds[-1].files) if passed else [],
        "rounds": [
            {
                "number": done.number,
                "verdict": done.verdict,
                "output": done.output,
                "took_s": round(done.took_s, 3),
            }
            for done in rounds
        ],
    }
    told = f"passed in round {len(rounds)}: {out}" if passed else f"not solved in {len(rounds)} rounds: {out}"
    return Result(data, told, ExitCode.OK if passed else ExitCode.FAILED)


def _read(paths: tuple[Path, ...]) -> Mapping[str, str]:
    try:
        return {path.name: path.read_text(encoding="utf-8") for path in paths}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read tests: {error}") from error


def _say(session: Session, done: "Round") -> None:
    session.say(f"round {done.number}: {done.verdict} ({done.took_s:.1f} s)")
    if done.verdict != "passed":
        session.say("  " + "\n  ".join(done.output[-SAID:].splitlines()[-4:]))
