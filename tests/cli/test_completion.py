"""Completion in a real shell, where there is one."""

import shutil
import subprocess
import sys

import pytest

from tests.fakes.home import Home

ASK = """
source "$HOME/completion"
COMP_WORDS=(qwenctl {words}); COMP_CWORD={index}
_qwenctl_completion qwenctl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(home: Home, *words: str) -> set[str]:
    """What bash offers after these words."""
    folder = home.path / "bin"
    folder.mkdir(exist_ok=True)
    script = folder / "qwenctl"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m qwenctl "$@"\n')
    script.chmod(0o755)
    (home.path / "completion").write_text(home.run("completion", "bash").out)
    text = ASK.format(words=" ".join(word or "''" for word in words), index=len(words))
    done = subprocess.run(
        ["bash", "-c", text],  # noqa: S607 - PATH is what a person has
        env=home.environment | {"PATH": f"{folder}:{home.environment['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is missing")
def test_bash_completes_commands_and_options(bare_home: Home) -> None:
    assert completed(bare_home, "ser") == {"service"}
    assert completed(bare_home, "service", "un") == {"uninstall"}
    assert completed(bare_home, "up", "--ti") == {"--timeout"}
    assert completed(bare_home, "connect", "op") == {"openai", "opencode", "open-webui"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(bare_home: Home, shell: str) -> None:
    ran = bare_home.run("completion", shell)
    assert ran.code == 0
    assert f"_QWENCTL_COMPLETE={shell}_complete" in ran.out
    assert "completion" in ran.err
    if path := shutil.which(shell):
        done = subprocess.run([path, "-n"], input=ran.out, text=True, timeout=60, check=False)
        assert done.returncode == 0


def test_another_shell_is_refused(bare_home: Home) -> None:
    assert bare_home.run("completion", "tcsh").code == 2
