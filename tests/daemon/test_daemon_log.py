"""The log of a daemon that nobody watches: bounded, and a traceback is never lost."""

import subprocess
import sys
from pathlib import Path

from qwenctl.cli.run import LOG_BYTES
from tests.fakes.home import Home

LINES = 50
TALK = f"""
import logging, sys
from pathlib import Path
from qwenctl.cli.run import log_to
log_to(Path(sys.argv[1]), max_bytes=1000)
for number in range({LINES}):
    logging.info("line %d", number)
raise ZeroDivisionError("told to nobody")
"""


def talk(log: Path, stderr: Path) -> None:
    with stderr.open("ab") as file:
        subprocess.run([sys.executable, "-c", TALK, str(log)], stderr=file, check=False, timeout=60)


def test_a_traceback_is_in_the_newest_file_after_any_number_of_rotations(tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"
    talk(log, stderr=log)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["daemon.log", "daemon.log.1"]
    assert "ZeroDivisionError: told to nobody" in log.read_text()
    assert (tmp_path / "daemon.log.1").stat().st_size <= 1000


def test_a_stderr_that_is_not_the_log_stays_where_it_is(tmp_path: Path) -> None:
    log, stderr = tmp_path / "daemon.log", tmp_path / "launchd.log"
    talk(log, stderr)
    assert "ZeroDivisionError" in stderr.read_text()
    assert f"line {LINES - 1}" in log.read_text()
    assert f"line {LINES - 1}" not in stderr.read_text()


def test_a_detached_daemon_rotates_what_earlier_ones_left(home: Home) -> None:
    log = home.state / "daemon.log"
    home.state.mkdir(mode=0o700, parents=True)
    log.write_bytes(b"x" * LOG_BYTES)
    home.up()
    assert (home.state / "daemon.log.1").stat().st_size >= LOG_BYTES
    assert "phase=ready" in log.read_text()
    assert log.stat().st_size < LOG_BYTES
