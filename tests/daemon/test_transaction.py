"""A change of configuration never makes things worse. On the real server, through config file and flags."""

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.fakes.home import Home, kill, until

WITHIN = 30.0


def config(home: Home) -> Path:
    return home.path / ".config/qwenctl/config.toml"


def write(home: Home, text: str) -> None:
    """Replace the file as editors do."""
    part = config(home).with_name("config.toml.part")
    part.write_text(text)
    part.replace(config(home))


def base(home: Home, more: str = "") -> str:
    return f'profile = "demo"\n[server]\nport = {home.port}\n{more}\n'


@pytest.fixture
def served(home: Home) -> Home:
    """A home whose server runs by its config file alone."""
    config(home).parent.mkdir(parents=True)
    write(home, base(home))
    ran = home.run("up")
    assert ran.code == 0, ran.err
    return home


def events(home: Home) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home.state / "events.jsonl").read_text().splitlines()]


def named(home: Home, name: str) -> list[dict[str, Any]]:
    return [event for event in events(home) if event["event"] == name]


def post(home: Home, path: str, body: object = None) -> httpx.Response:
    transport = httpx.HTTPTransport(uds=str(home.state / "control.sock"))
    with httpx.Client(transport=transport, base_url="http://x", timeout=WITHIN) as client:
        return client.post(path, json=body)


def test_a_saved_file_is_applied_by_itself(served: Home) -> None:
    write(served, base(served, "[context]\ntokens = 1024"))
    until(lambda: served.status()["plan"]["context_tokens"] == 1024 and served.status()["ready"], WITHIN)


def test_a_file_that_is_no_toml_changes_nothing_and_shows_in_the_status(served: Home) -> None:
    before = served.status()
    write(served, "profile = [")
    until(lambda: not served.status()["config"]["valid"], WITHIN)
    after = served.status()
    assert after["pid"] == before["pid"]
    assert after["config"]["error"].startswith("cannot read settings ")
    write(served, base(served))
    until(lambda: served.status()["config"]["valid"], WITHIN)
    assert served.status()["pid"] == before["pid"]
    assert [event["event"] for event in events(served)][-2:] == ["config_invalid", "config_valid"]


@pytest.mark.parametrize(
    "more",
    ['extra_args = ["--no-such-flag"]', 'colour = "red"', 'binary = "/nonexistent/llama-server"'],
)
def test_a_fault_that_can_be_known_beforehand_leaves_the_server_running(served: Home, more: str) -> None:
    before = served.status()["pid"]
    write(served, base(served, more))
    until(lambda: not served.status()["config"]["valid"], WITHIN)
    assert served.status()["pid"] == before
    assert served.run("status").code == 0


def test_a_fault_that_only_the_server_finds_is_rolled_back(served: Home) -> None:
    """A value that --help cannot judge: the new server ends, the old configuration comes back."""
    first = served.status()["pid"]
    write(served, base(served, 'extra_args = ["--numa", "nonsense"]'))
    until(lambda: served.status()["rolled_back"] and served.status()["ready"], WITHIN)
    after = served.status()
    assert after["pid"] not in (first, None)
    assert "--numa" in after["rolled_back"]["why"]
    assert after["restarts"]["by_cause"] == {"bad_flag": 1}
    assert "nonsense" not in " ".join(psutil.Process(after["pid"]).cmdline())
    assert "rolled    back" in served.run("status").out
    kill(after["pid"])
    until(lambda: served.status()["pid"] not in (after["pid"], None) and served.status()["ready"], WITHIN)
    assert served.status()["rolled_back"] is not None
    write(served, base(served, "[context]\ntokens = 1024"))
    until(lambda: served.status()["plan"]["context_tokens"] == 1024 and served.status()["ready"], WITHIN)
    assert served.status()["rolled_back"] is None


def test_up_says_when_its_flags_were_rolled_back_and_does_not_keep_them(served: Home) -> None:
    taken = {"overrides": {"server": {"extra_args": ["--numa", "nonsense"]}}}
    assert post(served, "/v1/apply", taken).json() == {"change": 2}
    until(lambda: served.status()["rolled_back"] and served.status()["ready"], WITHIN)
    assert (
        not (served.state / "overrides.json").exists()
        or served.json("settings")["data"]["server.extra_args"]["origin"] == "default"
    )


def test_settings_that_concern_only_qwenctl_need_no_restart(served: Home) -> None:
    before = served.status()["pid"]
    write(served, base(served, "[supervise]\nstop_timeout_s = 3\nwedge_after_s = 60"))
    assert post(served, "/v1/reload").json()["changed"] is False
    assert served.status()["pid"] == before


def test_a_reload_of_the_same_settings_does_nothing(served: Home) -> None:
    before = served.status()["pid"]
    for _ in range(3):
        assert post(served, "/v1/reload").json()["changed"] is False
    assert served.status()["pid"] == before
    assert len(named(served, "planned")) == 1


def test_ten_quick_saves_are_one_restart(served: Home) -> None:
    for tokens in range(1024, 11264, 1024):
        write(served, base(served, f"[context]\ntokens = {tokens}"))
    until(lambda: served.status()["plan"]["context_tokens"] == 10240 and served.status()["ready"], WITHIN)
    assert len(named(served, "child_started")) == 2


def test_sighup_reads_the_file_again(served: Home) -> None:
    write(served, base(served, "[context]\ntokens = 2048"))
    os.kill(served.status()["daemon_pid"], signal.SIGHUP)
    until(lambda: served.status()["plan"]["context_tokens"] == 2048 and served.status()["ready"], WITHIN)


def test_a_reload_of_a_wrong_file_is_answered_with_an_error(served: Home) -> None:
    write(served, base(served, 'colour = "red"'))
    answer = post(served, "/v1/reload")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "usage"


def test_a_config_folder_that_vanishes_leaves_the_server_alone(served: Home) -> None:
    before = served.status()["pid"]
    folder = config(served).parent
    config(served).unlink()
    folder.rmdir()
    assert post(served, "/v1/reload").status_code == 400
    assert served.status()["pid"] == before
    assert "it is gone" in served.status()["config"]["error"]
    folder.mkdir()
    write(served, base(served, "[context]\ntokens = 1024"))
    until(lambda: served.status()["plan"]["context_tokens"] == 1024 and served.status()["ready"], WITHIN)
    assert served.status()["config"]["valid"]


def test_a_new_port_that_is_taken_leaves_the_server_running(served: Home) -> None:
    before = served.status()["pid"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ran = served.run("up", "--port", str(other.getsockname()[1]))
    assert ran.code == 1
    assert "already in use, by pid" in ran.err
    assert served.status()["pid"] == before


def test_a_removed_control_socket_comes_back(served: Home) -> None:
    (served.state / "control.sock").unlink()
    until((served.state / "control.sock").exists, WITHIN)
    assert post(served, "/v1/reload").json()["changed"] is False


def test_events_and_logs_are_streamed_and_shown(served: Home) -> None:
    transport = httpx.HTTPTransport(uds=str(served.state / "control.sock"))
    with httpx.Client(transport=transport, base_url="http://x", timeout=WITHIN) as client:
        with client.stream("GET", "/v1/events?n=4") as stream:
            lines = stream.iter_lines()
            assert [json.loads(next(lines))["event"] for _ in range(4)] == [
                "child_started",
                "loaded",
                "restoring",
                "child_ready",
            ]
            post(served, "/v1/restart")
            assert json.loads(next(lines))["event"] == "draining"
        assert client.get("/v1/logs?n=3&follow=0").text.count("\n") == 3
        assert client.get("/v1/logs?n=x").status_code == 400
        assert client.get("/v1/events?follow=2").json()["error"]["code"] == "usage"
    until(lambda: served.status()["ready"], WITHIN)
    told = served.json("events", "-n", "1000")["data"]["events"]
    names = [event["event"] for event in told]
    assert names[:3] == ["daemon_started", "planned", "child_started"]
    assert names.count("child_ready") == 2
    assert "child_ready" in served.run("events").out


def test_an_ending_is_told_with_its_last_lines(served: Home) -> None:
    first = served.status()["pid"]
    kill(first)
    until(lambda: served.status()["pid"] not in (first, None) and served.status()["ready"], WITHIN)
    (ended,) = named(served, "child_ended")
    assert ended["cause"] == "killed"
    assert 50 < len(ended["log_tail"]) <= 100
