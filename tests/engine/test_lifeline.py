"""A program that hangs on a lifeline ends with the process that started it, and changes in no other way."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from qwenctl.engine import process as engine_process
from qwenctl.engine.lifeline import NAME, Lifeline
from tests.fakes.home import kill, runs, until
from tests.fakes.process_group import group

WITHIN_S = 10.0
SYSTEMS = ("linux", "darwin") if sys.platform == "linux" else ("darwin",)
"""The way of each system that works here: a pipe and a watcher do everywhere."""
SLEEP = ("/bin/sleep", "100")
PARENT = """
import subprocess, sys, time
from qwenctl.engine.lifeline import Lifeline
line = Lifeline.new(sys.argv[1])
child = subprocess.Popen(["/bin/sleep", "100"], process_group=0, stdin=-3, preexec_fn=line.prepare)
print(child.pid, flush=True)
time.sleep(100)
"""


def begin(line: Lifeline, *command: str) -> "subprocess.Popen[bytes]":
    """Start a program as those of an engine are started."""
    process = subprocess.Popen(
        command,
        process_group=0,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        preexec_fn=line.prepare,  # noqa: PLW1509  it makes one system call
    )
    line.begun()
    return process


@pytest.fixture
def watched() -> Iterator[tuple["subprocess.Popen[bytes]", Lifeline]]:
    """A program with a watcher beside it."""
    line = Lifeline.new("darwin")
    process = begin(line, *SLEEP)
    try:
        until(lambda: len(group(process.pid)) == 2, WITHIN_S)
        yield process, line
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=WITHIN_S)
        line.cut()


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_killed_parent_takes_its_program_along(system: str) -> None:
    words = [sys.executable, "-c", PARENT, system]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        try:
            until(lambda: len(group(pid)) == (1 if system == "linux" else 2), WITHIN_S)
            kill(parent.pid)
            until(lambda: not group(pid), WITHIN_S)
        finally:
            parent.kill()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def test_a_program_that_does_not_start_leaves_no_file_open() -> None:
    """What cannot start fails with an OSError, and a word with a NUL with another error."""
    before = psutil.Process().num_fds()
    for word, error in (("/none", FileNotFoundError), ("a\0b", ValueError)):
        with pytest.raises(error):
            engine_process.begin([word], subprocess.DEVNULL, subprocess.DEVNULL, {}, system="darwin")
        assert psutil.Process().num_fds() == before, word


def test_a_parent_without_standard_files_keeps_its_program() -> None:
    """The pipe would take the numbers of the files that a new process replaces."""
    words = ["/bin/sh", "-c", 'exec "$@" <&- 2>&-', "sh", sys.executable, "-c", PARENT, "darwin"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        try:
            until(lambda: len(group(pid)) == 2, WITHIN_S)
            [watcher] = [each for each in group(pid) if each.pid != pid]
            until(lambda: watcher.status() == psutil.STATUS_SLEEPING, WITHIN_S)
            assert len(group(pid)) == 2, "the watcher reads the pipe, and waits"
        finally:
            parent.kill()
            until(lambda: not group(pid), WITHIN_S)


def test_the_watcher_changes_neither_the_process_nor_its_end() -> None:
    line = Lifeline.new("darwin")
    process = begin(line, "/bin/sh", "-c", "echo $$; exit 7")
    try:
        out, _ = process.communicate(timeout=WITHIN_S)  # the watcher does not hold its output open
        assert int(out) == process.pid
        assert process.returncode == 7
        until(lambda: [each.cmdline()[3] for each in group(process.pid)] == [NAME], WITHIN_S)
    finally:
        line.cut()
    until(lambda: not group(process.pid), WITHIN_S)


def test_the_watcher_stays_while_the_program_is_asked_to_end(
    watched: tuple["subprocess.Popen[bytes]", Lifeline],
) -> None:
    process, _ = watched
    [watcher] = [each for each in group(process.pid) if each.pid != process.pid]
    until(lambda: watcher.status() == psutil.STATUS_SLEEPING, WITHIN_S)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(WITHIN_S) == -signal.SIGTERM
    assert runs(watcher.pid)


def test_a_program_that_cannot_be_started_leaves_no_watcher() -> None:
    line = Lifeline.new("darwin")
    before = {each.pid for each in psutil.process_iter() if NAME in _words(each)}
    with pytest.raises(FileNotFoundError):
        begin(line, "/nonexistent/program")
    line.cut()
    until(lambda: not {each.pid for each in psutil.process_iter() if NAME in _words(each)} - before, WITHIN_S)


def test_a_lifeline_goes_on_in_the_next_program_of_the_process(
    watched: tuple["subprocess.Popen[bytes]", Lifeline],
) -> None:
    process, line = watched
    assert line.file is not None
    os.set_inheritable(line.file, True)  # as before exec
    later = Lifeline(line.file)
    assert not os.get_inheritable(line.file)
    line.file = None
    assert runs(process.pid)
    later.cut()
    assert process.wait(WITHIN_S) == -signal.SIGKILL


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
