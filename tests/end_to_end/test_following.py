"""Commands that go on printing: each line as it happens."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fakes.home import Home


@contextmanager
def following(home: Home, *arguments: str) -> Iterator[Iterator[str]]:
    """The lines that a command prints until it is ended."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "qwenctl", *arguments],
        env=home.environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield iter(process.stdout)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_events_are_followed_as_json_lines(served: Home) -> None:
    with following(served, "events", "-f", "--json", "-n", "1") as lines:
        assert "event" in json.loads(next(lines)), "the newest of those before"
        served.run("restart")
        names = [json.loads(next(lines))["event"]]
        while names[-1] != "child_ready":
            names.append(json.loads(next(lines))["event"])
    assert names[:3] == ["draining", "stopping", "child_started"]


def test_logs_are_followed_into_the_next_server(served: Home) -> None:
    with following(served, "logs", "-f", "-n", "1") as lines:
        next(lines)  # it follows by now
        served.run("restart")
        assert any("listening" in line for line in lines)


def test_status_is_watched(served: Home) -> None:
    with following(served, "status", "--watch", "--json") as lines:
        first = json.loads(next(lines))
        assert first["phase"] == "ready"
        served.run("restart")
        later = (status for status in map(json.loads, lines) if status["pid"] not in (first["pid"], None))
        assert next(later)["daemon_pid"] == first["daemon_pid"]


@pytest.mark.parametrize("command", ["events", "logs", "status"])
def test_without_a_daemon_there_is_nothing_to_follow(home: Home, command: str) -> None:
    ran = home.run(command)
    assert ran.code == 3
    assert ran.err.startswith("cannot show ")
