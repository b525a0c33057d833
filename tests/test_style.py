"""What CI runs beside the tests is a test: ruff, mypy, codespell, the project file."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = tuple(map(str, sorted((ROOT / ".github/workflows").glob("*.yml"))))


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "--no-cache"),
        ("ruff", "format", "--check", "--no-cache"),
        ("mypy",),
        (
            "codespell_lib",
            "README.md",
            "CONTRIBUTING.md",
            "CHANGELOG.md",
            "docs",
            "qwenctl",
            "tests",
            "benchmarks",
        ),
        ("validate_pyproject", "pyproject.toml"),
        ("check_jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS),
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_the_checkers_are_silent(command: tuple[str, ...]) -> None:
    if find_spec(command[0]) is None:
        pytest.skip(f"{command[0]} comes with the extra `dev`")
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
