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
    help="A file of tests that must pass. The model sees it. May be repeated.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder for the result and for every round.",
)
@click.option(
    "--run",
    "shell",
    metavar="CMD",
    help="Command that runs the tests (default: Python). Exit code 0 means they passed.",
)
@click.option(
    "--iterations", type=click.IntRange(1, 50), default=5, metavar="N", help="Give up after N rounds (5)."
)
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

    The code runs in a sandbox. The folder keeps the prompt, answer, code, output and verdict of each round.
    Exits 1 when no round passes.
    """
    from qwenctl.client.sandbox.sandbox import hint, isolation, unavailable
    from qwenctl.client.sandbox.sandbox_outcome import SandboxLimits
    from qwenctl.client.solve import Task, python_task, solve
    from qwenctl.errors import SandboxError

    iterations, shell = options["iterations"], options["shell"]
    assert isinstance(iterations, int)  # noqa: S101 - click made it one
    text = sys.stdin.read() if task == "-" else task
    test_files = _read(tests)
    isolated = isolation(unsafe=bool(options["unsafe"]))
    if isolated == "sandbox" and (why := unavailable()) is not None:
        raise SandboxError(why, hint=hint())
    if isolated == "limits":
        session.say("warning: no sandbox here; the code runs with time and memory limits only")
    if isinstance(shell, str):
        solve_task = Task(
            text, test_files, tuple(shlex.split(shell)), "", iterations, SandboxLimits(), isolated
        )
    else:
        solve_task = python_task(text, test_files, iterations, SandboxLimits(), isolated)
    with target(session, url, api_key_file).api() as api:
        rounds = solve(api, solve_task, out, lambda round_: _say(session, round_), time.sleep)
    passed = rounds[-1].verdict == "passed"
    data = {
        "passed": passed,
        "folder": str(out),
        "files": sorted(rounds[-1].files) if passed else [],
        "rounds": [
            {
                "number": round_.number,
                "verdict": round_.verdict,
                "output": round_.output,
                "took_s": round(round_.took_s, 3),
            }
            for round_ in rounds
        ],
    }
    summary = (
        f"passed in round {len(rounds)}: {out}" if passed else f"not solved in {len(rounds)} rounds: {out}"
    )
    return Result(data, summary, ExitCode.OK if passed else ExitCode.FAILED)


def _read(paths: tuple[Path, ...]) -> Mapping[str, str]:
    try:
        return {path.name: path.read_text(encoding="utf-8") for path in paths}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read tests: {error}") from error


def _say(session: Session, round_: "Round") -> None:
    session.say(f"round {round_.number}: {round_.verdict} ({round_.took_s:.1f} s)")
    if round_.verdict != "passed":
        session.say("  " + "\n  ".join(round_.output[-SAID:].splitlines()[-4:]))
