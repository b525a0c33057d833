"""solve: the loop against scripted answers, the code in the real sandbox."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from qwenctl.client.answer_files import FilesError, files_of
from qwenctl.client.openai_api import Api
from qwenctl.client.sandbox import sandbox
from qwenctl.client.sandbox.sandbox_outcome import SandboxLimits
from qwenctl.client.solve import Round, Task, python_task, solve
from qwenctl.errors import BrokenOffError, RefusedError
from tests.fakes.home import Home
from tests.fakes.openai_server import Break, Refuse, Say, Scripted, Step, serving

TESTS = {
    "test_double.py": "from solution import double\n\ndef test_it():\n    assert double(4) == 8, double(4)\n"
}
RIGHT = Say("Sure:\n```python\n# solution.py\ndef double(n):\n    return 2 * n\n```\n")
WRONG = Say("```python\ndef double(n):\n    return n\n```\n", reasoning="hm")
NO_CODE = Say("I would rather not.")
SPLIT = Say(
    "```python\n# solution.py\nfrom parts.two import TWO\ndef double(n):\n    return TWO * n\n```\n"
    'and\n```python title="parts/two.py"\nTWO = 2\n```'
)
pytestmark = pytest.mark.skipif(sandbox.unavailable() is not None, reason=str(sandbox.unavailable()))


def solved(
    script: Sequence[Step], folder: Path, task: Task | None = None
) -> tuple[list[Round], Scripted, list[float]]:
    waited: list[float] = []
    wanted = task or python_task("Write double(n).", TESTS, 5, SandboxLimits(wall_s=5))
    with serving(script) as server, Api(server.url) as api:
        rounds = solve(api, wanted, folder, lambda _round: None, waited.append)
    return rounds, server, waited


def verdicts(rounds: list[Round]) -> list[str]:
    return [done.verdict for done in rounds]


def test_right_at_the_first_try(tmp_path: Path) -> None:
    rounds, server, _ = solved([RIGHT], tmp_path)
    assert verdicts(rounds) == ["passed"]
    assert (tmp_path / "solution.py").read_text() == "# solution.py\ndef double(n):\n    return 2 * n\n"
    assert "from solution import double" in server.asked[0]["messages"][1]["content"]


def test_right_at_the_third_try_after_hearing_of_its_errors(tmp_path: Path) -> None:
    rounds, server, _ = solved([WRONG, NO_CODE, RIGHT], tmp_path)
    assert verdicts(rounds) == ["failed", "no code", "passed"]
    heard = [asked["messages"][-1]["content"] for asked in server.asked]
    assert "AssertionError: 4" in heard[1]
    assert "no fenced code block" in heard[2]
    assert len(server.asked[2]["messages"]) == 4  # the task and the last round, not all of them


def test_never_right_ends_after_its_tries_and_writes_no_result(tmp_path: Path) -> None:
    rounds, server, _ = solved([WRONG], tmp_path)
    assert verdicts(rounds) == ["failed"] * 5
    assert len(server.asked) == 5
    assert not (tmp_path / "solution.py").exists()


def test_every_round_is_kept(tmp_path: Path) -> None:
    solved([WRONG, RIGHT], tmp_path)
    kept = tmp_path / "round-1"
    assert json.loads((kept / "verdict.json").read_text())["verdict"] == "failed"
    assert "return n" in (kept / "files/solution.py").read_text()
    assert "AssertionError: 4" in (kept / "output.txt").read_text()
    assert (kept / "answer.md").read_text() == WRONG.text
    assert (kept / "thinking.md").read_text() == "hm"
    assert json.loads((kept / "prompt.json").read_text())[0]["role"] == "system"


def test_a_server_that_restarts_in_between_costs_no_round(tmp_path: Path) -> None:
    rounds, server, waited = solved([Break("def"), Refuse(503), Break(error=None), RIGHT], tmp_path)
    assert verdicts(rounds) == ["passed"]
    assert len(server.asked) == 4
    assert waited == [1.0, 2.0, 4.0]


def test_a_server_that_is_gone_or_refuses_ends_it(tmp_path: Path) -> None:
    with pytest.raises(BrokenOffError):
        solved([Break("def")], tmp_path)
    with pytest.raises(RefusedError, match="no such model"):
        solved([Refuse(404, "no such model")], tmp_path)


def test_several_files_and_files_in_folders_work(tmp_path: Path) -> None:
    rounds, _, _ = solved([SPLIT], tmp_path)
    assert verdicts(rounds) == ["passed"]
    assert (tmp_path / "parts/two.py").read_text() == "TWO = 2\n"


@pytest.mark.parametrize(
    "cheat",
    [
        "# test_double.py\ndef test_it():\n    pass",
        "# solution.py\nimport os\nos._exit(0)",
        "# solution.py\nraise SystemExit(0)",
        "# .run_tests.py\nprint('all tests pass')",
    ],
    ids=["its own tests", "an early end", "an early exit", "its own runner"],
)
def test_what_only_looks_like_passing_does_not_pass(tmp_path: Path, cheat: str) -> None:
    task = python_task("Write double(n).", TESTS, 1, SandboxLimits(wall_s=5))
    rounds, _, _ = solved([Say(f"```python\n{cheat}\n```")], tmp_path, task)
    assert verdicts(rounds) != ["passed"]


def test_another_language_runs_by_its_command(tmp_path: Path) -> None:
    task = Task(
        "Print 8.",
        {"check.sh": 'test "$(sh double.sh)" = 8'},
        ("sh", "check.sh"),
        "",
        2,
        SandboxLimits(),
    )
    rounds, _, _ = solved(
        [Say("```sh\n# double.sh\necho 7\n```"), Say("```sh\n# double.sh\necho 8\n```")], tmp_path, task
    )
    assert verdicts(rounds) == ["failed", "passed"]


@pytest.mark.parametrize(
    ("answer", "files"),
    [
        ("```\nx = 1\n```", {"solution.py": "x = 1\n"}),
        ("```python\nx = 1", {"solution.py": "x = 1"}),
        ("````python\n'''\n```\n'''\n````", {"solution.py": "'''\n```\n'''\n"}),
        ("```js\n// src/a.js\nlet x\n```", {"src/a.js": "// src/a.js\nlet x\n"}),
        ("```python:pack/b.py\nx = 1\n```", {"pack/b.py": "x = 1\n"}),
        ("1. so:\n   ```py\n   x = 1\n   ```", {"solution.py": "x = 1\n"}),
    ],
)
def test_code_is_found_as_markdown_has_it(answer: str, files: dict[str, str]) -> None:
    assert files_of(answer) == files


@pytest.mark.parametrize("name", ["../x.py", "/etc/x.py", "a/../../x.py"])
def test_a_file_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(FilesError, match="outside"):
        files_of(f"```python\n# {name}\nx = 1\n```")


PEEK = """```python
# solution.py
try:
    print(open({secret!r}).read())
except OSError as error:
    print(error.strerror)
def double(n):
    return 2 * n
```"""
NO_NAMESPACES = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
"""A shell in a user namespace of its own may forbid further ones: then there is no sandbox inside."""


def test_unsafe_does_not_turn_a_working_sandbox_off(bare_home: Home) -> None:
    tests, secret = bare_home.path / "test_double.py", bare_home.path / "secret"
    tests.write_text(TESTS["test_double.py"])
    secret.write_text("sesame")
    with serving([Say(PEEK.format(secret=str(secret)))]) as server:
        words = ("solve", "x", "--tests", str(tests), "--out", "d", "--url", server.url)
        outputs = [
            bare_home.json(*words, *more)["data"]["rounds"][0]["output"] for more in ((), ("--unsafe",))
        ]
    for output in outputs:
        assert "No such file or directory" in output
        assert "sesame" not in output


def without_sandbox(home: Home, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line where no user namespaces can be made."""
    shell = ["unshare", "--user", "--map-root-user", "sh", "-c", NO_NAMESPACES, "sh"]
    return subprocess.run(
        [*shell, sys.executable, "-m", "qwenctl", *words],
        env=home.environment,
        cwd=home.path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_without_a_sandbox_the_code_runs_only_with_unsafe_and_then_within_limits(bare_home: Home) -> None:
    tests = bare_home.path / "test_double.py"
    tests.write_text(TESTS["test_double.py"])
    with serving([RIGHT]) as server:
        words = ("solve", "x", "--tests", str(tests), "--out", "d", "--url", server.url)
        refused, allowed = without_sandbox(bare_home, *words), without_sandbox(bare_home, *words, "--unsafe")
    assert refused.returncode == 1
    assert refused.stderr.startswith("cannot run code in a sandbox: ")
    assert "hint: --unsafe runs the code with time and memory limits only" in refused.stderr
    assert not server.asked[1:]
    assert allowed.stdout == "passed in round 1: d\n", allowed.stderr
    assert allowed.stderr.startswith("warning: no sandbox here;")


def test_the_command_line_solves_and_says_so(bare_home: Home) -> None:
    tests = bare_home.path / "test_double.py"
    tests.write_text(TESTS["test_double.py"])
    with serving([WRONG, RIGHT]) as server:
        ran = bare_home.run(
            "solve", "Write double(n).", "--tests", str(tests), "--out", "d", "--url", server.url
        )
        again = bare_home.json("solve", "x", "--tests", str(tests), "--out", "e", "--url", server.url)
    assert ran.out == "passed in round 2: d\n", ran.err
    assert again["data"]["files"] == ["solution.py"]
    assert bare_home.run("solve", "x", "--tests", "none.py", "--out", "f", "--url", server.url).code == 2
