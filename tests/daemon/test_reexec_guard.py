"""The guard of a re-execution, with real processes: it acts if the daemon ends untold, and only then."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from tests.fakes.home import runs, until

SOON = 20.0
DAEMON = """
import os, pathlib, sys, time
from qwenctl.daemon.reexec_guard import dismiss, stand_guard
folder, then = pathlib.Path(sys.argv[1]), sys.argv[2]
held = os.open(folder / "held", os.O_CREAT | os.O_RDWR)
again = (sys.executable, "-c", {again!r}, str(folder), str(held))
guard = stand_guard(again, {{"GIVEN": "x"}}, (held,), timeout_s=float(sys.argv[3]))
(folder / "ready").touch()
if then == "dismiss":
    dismiss(guard)
    sys.exit(0)
os.set_inheritable(guard, True)
if then == "hang":
    os.execv("/bin/sleep", ["sleep", "100"])
if then == "exec":
    os.execv("/bin/sh", ["sh", "-c", "exit 3"])
sys.exit(0)
"""
AGAIN = """
import os, pathlib, sys
folder, held = pathlib.Path(sys.argv[1]), int(sys.argv[2])
os.write(held, b"still open")
(folder / "part").write_text(f"{os.getpid()} {os.environ['GIVEN']} {len(os.listdir('/dev/fd'))}")
(folder / "part").rename(folder / "again")
"""


def start(folder: Path, then: str, timeout_s: float = SOON) -> subprocess.Popen[bytes]:
    """Start what stands for a daemon; it stands a guard and then does something."""
    script = textwrap.dedent(DAEMON.format(again=AGAIN))
    words = [sys.executable, "-c", script, str(folder), then, str(timeout_s)]
    return subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})


def guards(folder: Path) -> list[int]:
    """Return the processes that have the daemon's command line."""
    found = []
    for each in psutil.process_iter():
        try:
            if str(folder) in each.cmdline() and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("then", ["exit", "exec"])
def test_the_old_program_starts_with_the_same_open_files(tmp_path: Path, then: str) -> None:
    daemon = start(tmp_path, then)
    assert daemon.wait(SOON) == (0 if then == "exit" else 3)
    until((tmp_path / "again").exists, SOON)
    pid, given, files = (tmp_path / "again").read_text().split()
    assert int(pid) != daemon.pid
    assert given == "x"
    assert int(files) <= 5, "three, the one that was given, and the folder of this count"
    assert (tmp_path / "held").read_bytes() == b"still open"
    until(lambda: not guards(tmp_path), SOON)


def test_a_program_that_never_gets_ready_is_killed_first(tmp_path: Path) -> None:
    daemon = start(tmp_path, "hang", timeout_s=0.5)
    assert daemon.wait(SOON) == -9
    until((tmp_path / "again").exists, SOON)


def test_a_guard_that_was_dismissed_does_nothing(tmp_path: Path) -> None:
    daemon = start(tmp_path, "dismiss")
    assert daemon.wait(SOON) == 0
    until(lambda: not guards(tmp_path), SOON)
    assert not (tmp_path / "again").exists()


def test_a_guard_waits_as_long_as_the_new_program_starts(tmp_path: Path) -> None:
    daemon = start(tmp_path, "hang")
    try:
        until((tmp_path / "ready").exists, SOON)
        until(lambda: len(guards(tmp_path)) == 1 and psutil.Process(daemon.pid).name() == "sleep", SOON)
        begun = time.monotonic()
        until(lambda: time.monotonic() > begun + 0.3, SOON)
        assert runs(daemon.pid)
        assert not (tmp_path / "again").exists()
    finally:
        daemon.kill()
        daemon.wait()
    until((tmp_path / "again").exists, SOON)
    until(lambda: not guards(tmp_path), SOON)
