"""Let a model write code until its tests pass: ask, run the tests, show the model the errors, repeat.

The code runs in the sandbox. Every round is saved. An answer that is cut off is asked for again; it does not
cost a round.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qwenctl.client.answer import Answer, Table
from qwenctl.client.answer_files import FilesError, files_of
from qwenctl.client.openai_api import Api
from qwenctl.client.sandbox import runner, sandbox
from qwenctl.client.sandbox.sandbox import Isolation
from qwenctl.client.sandbox.sandbox_outcome import Outcome, SandboxLimits
from qwenctl.errors import BrokenOffError, ClientError
from qwenctl.files import reason

MAX_TOKENS = 32768
ASKED_AGAIN = 3
"""How often a question is asked again when the answer is cut off or the server cannot be reached."""
SHOWN = 4000
"""Characters of a run's output that the model gets to see: the end, where the error is."""
RoundVerdict = Literal["passed", "failed", "no code"]

RUNNER = ".run_tests.py"

SYSTEM = """You write code that passes tests. Answer with every file whole, each in one fenced code block
whose first line is a comment with the file's name, like `# solution.py`. Put the task's code in solution.py
unless the task says otherwise. Write no tests."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task and its tests. The tests pass if ``command`` exits with 0 and its last line is ``proof``.

    ``tests`` are files that the model may not change. An empty ``proof`` asks for no last line.
    """

    text: str
    tests: Mapping[str, str]
    command: tuple[str, ...]
    proof: str
    iterations: int
    limits: SandboxLimits
    isolated: Isolation = "sandbox"


@dataclass(frozen=True, slots=True)
class Round:
    """One try of the model."""

    number: int
    verdict: RoundVerdict
    files: Mapping[str, str]
    output: str
    took_s: float


def python_task(
    text: str,
    tests: Mapping[str, str],
    iterations: int,
    limits: SandboxLimits,
    isolated: Isolation = "sandbox",
) -> Task:
    """Return a task whose tests are Python files, run by ``sandbox/runner.py``."""
    command = (*sandbox.python(), RUNNER, *tests)
    return Task(text, tests, command, runner.PROOF, iterations, limits, isolated)


def solve(
    api: Api, task: Task, folder: Path, on_round: Callable[[Round], None], pause: Callable[[float], None]
) -> list[Round]:
    """Return the rounds; either the last one passed, or there are no more. ``folder`` gets rounds and result.

    The prompt holds only the task and the last round: more would fill the context with code that failed.

    Raises:
        ClientError: the endpoint keeps failing.
        SandboxError: code cannot be run safely here.
    """
    rounds: list[Round] = []
    first: list[Table] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": _question(task)}]
    last: list[Table] = []
    files: dict[str, str] = {}
    for number in range(1, task.iterations + 1):
        started = time.monotonic()
        verdict: RoundVerdict
        messages = [*first, *last]
        answer = _ask(api, {"messages": messages, "max_tokens": MAX_TOKENS}, pause)
        try:
            files |= files_of(answer.text, reserved=task.tests)
        except FilesError as error:
            verdict, output = "no code", str(error)
        else:
            outcome = sandbox.run(task.command, _together(files, task), task.limits, task.isolated)
            verdict = (
                "passed" if outcome.passed and outcome.output.rstrip().endswith(task.proof) else "failed"
            )
            output = _output_text(outcome, task.limits)
        round_ = Round(number, verdict, dict(files), output, time.monotonic() - started)
        _keep(folder, round_, messages, answer)
        rounds.append(round_)
        on_round(round_)
        if verdict == "passed":
            _write(folder, files)
            break
        last = [answer_message(answer), {"role": "user", "content": _complaint(round_)}]
    return rounds


def _together(files: Mapping[str, str], task: Task) -> dict[str, str]:
    ours = {RUNNER: Path(runner.__file__).read_text(encoding="utf-8")} if task.proof else {}
    return {**files, **task.tests, **ours}


def answer_message(answer: Answer) -> Table:
    """Return the answer as a message for the next round, without its thinking."""
    return {"role": "assistant", "content": answer.text}


def _ask(api: Api, body: Table, pause: Callable[[float], None]) -> Answer:
    """Return the answer. Asks again while the server restarts."""
    for tries_left in reversed(range(ASKED_AGAIN + 1)):
        try:
            return api.answer(body)
        except ClientError as error:
            if not tries_left or not _may_pass(error):
                raise
            pause(2.0 ** (ASKED_AGAIN - tries_left))
    raise AssertionError("unreachable")


def _may_pass(error: ClientError) -> bool:
    status = getattr(error, "status", None)
    return isinstance(error, BrokenOffError) or status is None or status in (429, 500, 502, 503, 504)


def _question(task: Task) -> str:
    test_blocks = "\n\n".join(f"```\n# {name}\n{text}\n```" for name, text in task.tests.items())
    return f"{task.text}\n\nThese tests must pass:\n\n{test_blocks}" if test_blocks else task.text


def _complaint(round_: Round) -> str:
    if round_.verdict == "no code":
        why = f"Your answer cannot be used: {round_.output}."
        return f"{why} Answer with every file whole, in fenced code blocks."
    return (
        f"The tests fail:\n\n```\n{round_.output[-SHOWN:]}\n```\n\nMend it and answer with every file whole."
    )


def _output_text(outcome: Outcome, limits: SandboxLimits) -> str:
    reasons = {
        "time": f"stopped after {limits.wall_s:g} s",
        "memory": "stopped: it used more memory than it may",
        "output": f"stopped: it printed more than {limits.output_bytes} bytes",
        "exited": f"exit code {outcome.code}",
    }
    return f"{outcome.output.rstrip()}\n{reasons[outcome.ended]}".lstrip()


def _keep(folder: Path, round_: Round, messages: Sequence[Table], answer: Answer) -> None:
    place = folder / f"round-{round_.number}"
    _write(place / "files", round_.files)
    verdict = {"verdict": round_.verdict, "took_s": round(round_.took_s, 3), "finish": answer.finish}
    _write(
        place,
        {
            "prompt.json": json.dumps(messages, ensure_ascii=False, indent=1),
            "answer.md": answer.text,
            "thinking.md": answer.reasoning,
            "output.txt": round_.output,
            "verdict.json": json.dumps(verdict),
        },
    )


def _write(folder: Path, files: Mapping[str, str]) -> None:
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise ClientError(f"cannot write {folder}: {reason(error)}") from error
