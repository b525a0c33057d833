"""Where logs lie, what is moved there, and what is emptied."""

import os
import sys
from pathlib import Path

import pytest

from qwenctl import paths
from qwenctl.control.log_files import bound_output, place, prepare


def test_elsewhere_than_on_a_mac_the_logs_stay_in_the_state_folder(tmp_path: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("a Mac")
    assert prepare(tmp_path) == paths.log_dir(tmp_path) == tmp_path
    assert place(tmp_path, tmp_path / "daemon.log") == tmp_path / "daemon.log"


def test_what_launchd_never_rotates_is_emptied_once_it_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "launchd.log"
    path.write_bytes(b"x" * 100)
    number = os.open(path, os.O_WRONLY | os.O_APPEND)
    assert not bound_output(number, 100)
    assert bound_output(number, 99)
    os.write(number, b"next\n")
    os.close(number)
    assert path.read_bytes() == b"[qwenctl: older lines were left out]\nnext\n"


def test_a_file_that_is_no_log_is_left(tmp_path: Path) -> None:
    """A person may send the output of ``qwenctl run`` anywhere: to a file at a place, or to a pipe."""
    path = tmp_path / "output"
    path.write_bytes(b"x" * 100)
    number = os.open(path, os.O_WRONLY)
    reads, writes = os.pipe()
    assert not bound_output(number, 10)
    assert not bound_output(writes, 10)
    for each in (number, reads, writes):
        os.close(each)
    assert not bound_output(number, 10)
    assert path.stat().st_size == 100
