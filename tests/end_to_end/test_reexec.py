"""Another program takes the daemon's place, or fails to, while clients ask. None of them may notice it."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from qwenctl.control.state_dir import running
from tests.fakes.home import Home, kill, runs, until
from tests.fakes.reexec_load import DaemonCount, Visitors, daemons, programs, reexec

SOON = 30.0


@pytest.fixture
def files(home: Home) -> dict[str, Path]:
    """The programs that may take the place of the daemon's."""
    return programs(home.path)


def events(home: Home, name: str) -> list[dict[str, object]]:
    """Return the events of this name."""
    lines = (home.state / "events.jsonl").read_text().splitlines()
    return [one for one in map(json.loads, lines) if one["event"] == name]


def open_files(pid: int) -> int:
    """Return how many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_it_keeps_the_process_the_server_and_the_sockets(home: Home, files: dict[str, Path]) -> None:
    home.up()
    before = home.status()
    answer = home.json("reexec", "--program", str(files["good"]))
    after = home.status()
    assert answer["ok"], answer
    assert answer["data"]["child_kept"] is True
    assert [after[name] for name in ("daemon_pid", "pid", "since", "plan", "endpoint")] == [
        before[name] for name in ("daemon_pid", "pid", "since", "plan", "endpoint")
    ]
    assert running(home.state) == before["daemon_pid"]
    assert daemons(home) == {before["daemon_pid"]}, "the guard has gone"
    assert len(events(home, "reexec")) == 1
    assert home.run("chat", "hi").code == 0


def test_it_can_be_done_again_and_again_and_nothing_is_left_open(home: Home, files: dict[str, Path]) -> None:
    home.up()
    pid, counts = home.status()["daemon_pid"], []
    for _ in range(4):
        assert home.run("reexec", "--program", str(files["good"])).code == 0
        counts.append(open_files(pid))
    assert counts[1:] == counts[:-1]
    words = psutil.Process(pid).cmdline()
    assert words.count("--handover") == 1


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.chaos)])
def test_no_request_is_lost_whatever_the_new_program_does(
    home: Home, files: dict[str, Path], rounds: int
) -> None:
    home.environment["QWENCTL_CONTEXT__PARALLEL"] = "4"
    home.up()
    visitors, count = Visitors(home.port), DaemonCount(home)

    async def story() -> None:
        async with visitors.asking(4, 4):
            await visitors.answered(8)
            for turn in range(rounds):
                before = home.status()
                done = await reexec(home, files["good"], "--wait", "60")
                assert done.code == 0, done.err
                assert home.status()["pid"] == before["pid"]
                await visitors.answered(8)
                bad = ("fails at once", "fails after the preflight", "prints rubbish")[turn % 3]
                done = await reexec(home, files["fails after the preflight" if turn == 0 else bad])
                assert done.code == 1, done
                until(lambda: home.status().get("ready"), SOON)
                await visitors.answered(8)

    with count.looking():
        asyncio.run(story())
    assert visitors.lost() == {}
    assert visitors.counts.total() > 16 * rounds
    assert (count.none, count.two) == (0, 0)
    assert count.looks > 20


@pytest.mark.parametrize(
    ("name", "words"),
    [("fails at once", "said: broken"), ("prints rubbish", "said: hello")],
)
def test_a_program_that_cannot_take_over_is_refused_before_anything_stops(
    home: Home, files: dict[str, Path], name: str, words: str
) -> None:
    home.up()
    before = home.status()
    refused = home.run("reexec", "--program", str(files[name]))
    assert refused.code == 1
    assert words in refused.err
    assert "goes on as it was" in refused.err
    assert home.status() == before


def test_a_program_that_ends_before_it_is_ready_is_undone(home: Home, files: dict[str, Path]) -> None:
    home.up()
    before = home.status()
    undone = home.run("reexec", "--program", str(files["fails after the preflight"]))
    assert undone.code == 1
    assert "ended before it was ready" in undone.err
    until(lambda: home.status().get("ready"), SOON)
    after = home.status()
    assert after["daemon_pid"] != before["daemon_pid"], "a process that has ended cannot be had again"
    assert daemons(home) == {after["daemon_pid"]}
    assert running(home.state) == after["daemon_pid"]
    assert after["reexec"]["error"] is not None
    assert home.run("reexec", "--program", str(files["good"])).code == 0


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """Connect to the gate."""
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as client:
        yield client


def answer(client: socket.socket) -> bytes:
    """Read one answer without a body of unknown length."""
    read = b""
    while b"\r\n\r\n" not in read:
        read += client.recv(65536)
    return read


HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_a_connection_goes_on_wherever_its_request_stands(home: Home, files: dict[str, Path]) -> None:
    """One is new, one has been answered, one is in the midst of a head, one sends while nobody reads."""
    home.up()
    with (
        connected(home.port) as new,
        connected(home.port) as answered,
        connected(home.port) as midway,
        connected(home.port) as pipelined,
    ):
        answered.sendall(HEALTH)
        assert b" 200 " in answer(answered)
        midway.sendall(HEALTH[:20])
        pipelined.sendall(HEALTH + HEALTH[:7])
        assert b" 200 " in answer(pipelined)
        assert home.run("reexec", "--program", str(files["good"])).code == 0
        new.sendall(HEALTH)
        answered.sendall(HEALTH)
        midway.sendall(HEALTH[20:])
        pipelined.sendall(HEALTH[7:])
        for each in (new, answered, midway, pipelined):
            assert b" 200 " in answer(each)


def test_answers_that_run_for_too_long_call_it_off(home: Home, files: dict[str, Path]) -> None:
    home.up()
    before = home.status()
    body = json.dumps({"prompt": "x", "n_predict": 100_000, "ignore_eos": True, "stream": True}).encode()
    with connected(home.port) as client:
        head = f"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        assert b" 200 " in answer(client)
        refused = home.run("reexec", "--program", str(files["good"]), "--wait", "0.2")
        assert refused.code == 1
        assert "1 answer still runs" in refused.err
        assert client.recv(65536), "it still runs"
        with connected(home.port) as other:
            other.sendall(HEALTH)
            assert b" 200 " in answer(other)
    assert home.status()["pid"] == before["pid"]
    assert events(home, "reexec_called_off")
    until(lambda: home.status()["in_flight"] == 0, SOON)
    assert home.run("reexec", "--program", str(files["good"])).code == 0


def test_the_server_still_ends_with_the_daemon_and_is_still_looked_after(
    home: Home, files: dict[str, Path]
) -> None:
    home.up()
    assert home.run("reexec", "--program", str(files["good"])).code == 0
    first = home.status()
    kill(first["pid"])
    until(lambda: home.status().get("ready") and home.status()["pid"] != first["pid"], SOON)
    assert home.status()["last_ending"]["cause"] == "killed"
    assert home.run("reexec", "--program", str(files["good"])).code == 0
    second = home.status()
    assert second["restarts"]["total"] == 1
    kill(second["daemon_pid"])
    until(lambda: not runs(second["pid"]), SOON)


def test_a_change_and_an_end_are_possible_afterwards(home: Home, files: dict[str, Path]) -> None:
    home.up()
    number = home.status()["change"]["number"]
    assert home.run("reexec", "--program", str(files["good"])).code == 0
    assert home.run("up", "--ctx", "2048").code == 0
    after = home.status()
    assert after["plan"]["context_tokens"] == 2048
    assert after["change"]["number"] > number
    assert home.run("reexec", "--program", str(files["good"])).code == 0
    assert home.status()["plan"]["context_tokens"] == 2048
    os.kill(after["daemon_pid"], signal.SIGHUP)
    until(lambda: home.status()["change"]["number"] > after["change"]["number"], SOON)
    assert home.run("down").code == 0
    until(lambda: not home.servers() and not daemons(home), SOON)


def test_an_unloaded_server_stays_unloaded_and_a_request_wakes_it(home: Home, files: dict[str, Path]) -> None:
    home.environment["QWENCTL_GATE__IDLE_UNLOAD_S"] = "0.2"
    home.up()
    until(lambda: home.status()["phase"] == "idle", SOON)
    assert home.run("reexec", "--program", str(files["good"])).code == 0
    assert home.status()["phase"] == "idle"
    assert home.servers() == []
    assert home.run("chat", "hi").code == 0


def test_signals_that_come_in_between_are_heard(home: Home, files: dict[str, Path]) -> None:
    """A terminate must end the daemon and its server, and wake no guard."""
    home.up()
    pid = home.status()["daemon_pid"]
    slow, began = home.path / "qwenctl-slow", home.path / "began"
    script = f"""#!{sys.executable}
import os, pathlib, sys, time
if "--handover" in sys.argv:
    pathlib.Path({str(began)!r}).touch()
    time.sleep(0.3)
os.execv({str(files["good"])!r}, sys.argv)
"""
    slow.write_text(script)
    slow.chmod(0o755)

    async def story() -> None:
        asked = asyncio.create_task(reexec(home, slow))
        await asyncio.to_thread(until, began.exists, SOON)
        os.kill(pid, signal.SIGTERM)
        await asked

    asyncio.run(story())
    until(lambda: not runs(pid), SOON)
    until(lambda: not home.servers(), SOON)
    until(lambda: running(home.state) is None, SOON)
    assert daemons(home) == set()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["ended", "silent"])
def test_a_server_that_cannot_be_used_any_more_is_started_again(
    home: Home, files: dict[str, Path], number: signal.Signals
) -> None:
    home.up()
    before = home.status()
    signals = home.path / "qwenctl-signals"
    kills = f"kill -{number.value} {before['pid']}"
    signals.write_text(f'#!/bin/sh\ncase "$*" in *--handover*) {kills};; esac\nexec {files["good"]} "$@"\n')
    signals.chmod(0o755)
    answer = home.json("reexec", "--program", str(signals))
    assert answer["ok"], answer
    assert answer["data"]["child_kept"] is False
    until(lambda: home.status().get("ready"), SOON)
    after = home.status()
    assert after["daemon_pid"] == before["daemon_pid"]
    assert after["pid"] != before["pid"]
    assert after["last_ending"]["cause"] == "killed"
    children = psutil.Process(after["daemon_pid"]).children()
    assert [each.pid for each in children if each.status() == psutil.STATUS_ZOMBIE] == []


def test_settings_that_are_saved_in_between_are_read(home: Home, files: dict[str, Path]) -> None:
    """Nobody watches the file between the last look of one program and the first of the next."""
    config = home.path / ".config/qwenctl/config.toml"
    config.parent.mkdir(parents=True)
    text = f'profile = "demo"\n[server]\nport = {home.port}\nextra_args = ["-t", "1"]\n'
    config.write_text(text)
    home.up()
    saves = home.path / "qwenctl-saves"
    saves.write_text(
        f"""#!/bin/sh
case "$*" in *--handover*) printf '[context]\\ntokens = 2048\\n' >> {config};; esac
exec {files["good"]} "$@"
"""
    )
    saves.chmod(0o755)
    assert home.run("reexec", "--program", str(saves)).code == 0
    until(lambda: home.status()["plan"]["context_tokens"] == 2048 and home.status()["ready"], SOON)


def test_keys_of_the_environment_and_a_server_without_a_gate_go_on(
    home: Home, files: dict[str, Path]
) -> None:
    home.environment["QWENCTL_API_KEY"] = "sesame"
    home.up()
    assert home.run("reexec", "--program", str(files["good"])).code == 0
    url = f"http://127.0.0.1:{home.port}/v1/models"
    assert httpx.get(url, timeout=SOON).status_code == 401
    assert httpx.get(url, timeout=SOON, headers={"Authorization": "Bearer sesame"}).status_code == 200
    assert home.run("down").code == 0
    until(lambda: not daemons(home), SOON)
    del home.environment["QWENCTL_API_KEY"]
    home.environment["QWENCTL_GATE__ENABLED"] = "false"
    home.up()
    before = home.status()
    assert home.run("reexec", "--program", str(files["good"])).code == 0
    assert home.status()["pid"] == before["pid"]
    assert httpx.get(url, timeout=SOON).status_code == 200


def test_up_does_it_first_when_asked(home: Home) -> None:
    home.up()
    before = home.status()
    ran = home.run("up", "--reexec")
    assert ran.code == 0, ran
    assert "the server kept its model" in ran.err
    after = home.status()
    assert [after[name] for name in ("daemon_pid", "pid")] == [before[name] for name in ("daemon_pid", "pid")]
    assert after["reexec"]["number"] == 1


def test_without_a_daemon_or_a_program_it_says_so(bare_home: Home) -> None:
    ran = bare_home.run("reexec")
    assert (ran.code, "is not running" in ran.err) == (3, True)
