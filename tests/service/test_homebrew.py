"""The formula, as far as it can be read without Homebrew. Its service runs in tests/darwin."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from qwenctl.paths import BREW_PATH
from tests.darwin.homebrew import FORMULA, service_plist

TEXT = FORMULA.read_text()
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_the_service_restarts_after_failures_only_and_finds_what_homebrew_has() -> None:
    plist = service_plist(TEXT)
    assert plist["ProgramArguments"] == ["/opt/homebrew/opt/qwenctl/bin/qwenctl", "run"]
    assert plist["KeepAlive"] == {"SuccessfulExit": False}
    assert plist["ProcessType"] == "Interactive"
    assert plist["StandardOutPath"] == plist["StandardErrorPath"] == "/opt/homebrew/var/log/qwenctl.log"
    assert BREW_PATH[0] in plist["EnvironmentVariables"]["PATH"].split(":")


def test_the_formula_agrees_with_the_project_and_has_no_invented_sum() -> None:
    found = re.search(r'depends_on "python@(3\.\d+)"', TEXT)
    assert found is not None
    least = tuple(map(int, PROJECT["requires-python"].removeprefix(">=").split(".")))
    assert tuple(map(int, found[1].split("."))) >= least
    assert {f'"python{found[1]}"'} == set(re.findall(r'"python3[.\d]*"', TEXT))
    assert f'license "{PROJECT["license"]}"' in TEXT
    assert 'depends_on "llama.cpp"' in TEXT
    assert "sha256" not in TEXT
    assert "resource " not in TEXT
    names = {re.split(r"[>=\[;]", line)[0].replace("_", "-") for line in PROJECT["dependencies"]}
    assert {"pydantic", "watchfiles", "huggingface-hub"} <= names, "where the extensions in Rust come from"


def test_the_formula_is_ruby() -> None:
    ruby = shutil.which("ruby")
    if ruby is None:
        pytest.skip("there is no ruby")
    done = subprocess.run([ruby, "-c", FORMULA], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
