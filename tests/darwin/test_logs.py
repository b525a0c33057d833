"""Logs and events on a Mac: they end, they follow, and nothing spins in the daemon afterwards."""

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator

import httpx
import psutil

from tests.darwin.mac import Mac
from tests.fakes.home import runs, until
from tests.fakes.process_group import group

WITHIN_S = 20.0
IDLE_S = 2.0
"""So long the daemon is watched while nobody asks for anything."""


@contextlib.contextmanager
def followed(mac: Mac, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a command that goes on, and end it, as Ctrl-C would."""
    process = mac.begun([str(mac.python), "-m", "qwenctl", *words])
    end = threading.Timer(WITHIN_S, process.kill)  # a line that never comes ends the test
    end.start()
    try:
        yield process
    finally:
        end.cancel()
        process.kill()
        process.communicate(timeout=WITHIN_S)


def printed(mac: Mac, *words: str) -> str:
    """Return what a command printed that ended by itself."""
    with followed(mac, *words) as process:
        out, err = process.communicate(timeout=2 * WITHIN_S)
        assert process.returncode == 0, err or "it did not end"
        return out


def told(mac: Mac, path: str) -> str:
    """Return what the daemon answers at its control socket."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(mac.state / "control.sock"))) as client:
        return client.get(f"http://qwenctl{path}", timeout=WITHIN_S).text


def line_with(process: "subprocess.Popen[str]", text: str) -> str:
    """Return the next line with this text; the test ends where the output does."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"no line with {text}")


def test_logs_and_events_end_and_follow_without_a_daemon(bare_mac: Mac) -> None:
    state = bare_mac.state
    state.mkdir(parents=True)
    bare_mac.logs.mkdir(parents=True)
    log, events, older = bare_mac.logs / "server.log", state / "events.jsonl", bare_mac.logs / "server.log.1"
    older.write_text("".join(f"old {number}\n" for number in range(5)))
    log.write_text("new 0\nnew 1\n")
    events.write_text("".join(json.dumps({"at": "now", "event": f"e{each}"}) + "\n" for each in range(5)))

    assert printed(bare_mac, "logs", "-n", "3") == "old 4\nnew 0\nnew 1\n", "the rotated part comes first"
    assert printed(bare_mac, "events", "-n", "3") == "now e2\nnow e3\nnow e4\n"

    with followed(bare_mac, "logs", "-f", "-n", "1") as process:
        line_with(process, "new 1")
        log.rename(older)
        log.write_text("after the rotation\n")
        line_with(process, "after the rotation")
    with followed(bare_mac, "events", "-f", "-n", "1") as process:
        line_with(process, "e4")
        with events.open("a") as file:
            file.write('{"at": "now", "event": "e5"}\n')
        line_with(process, "e5")


def test_a_daemon_that_was_asked_for_its_log_idles_and_ends(mac: Mac) -> None:
    mac.up()
    daemon, members = psutil.Process(mac.status()["daemon_pid"]), group(mac.status()["pid"])
    for name in ("logs", "events"):
        assert told(mac, f"/v1/{name}?n=3&follow=0").count("\n") == 3

    before = daemon.cpu_times()
    with contextlib.suppress(psutil.TimeoutExpired):
        daemon.wait(IDLE_S)
    after = daemon.cpu_times()
    used_s = after.user + after.system - before.user - before.system
    assert used_s < 0.01 * IDLE_S, f"an idle daemon used {used_s:.2f} s of CPU in {IDLE_S:g} s"

    assert mac.run("down").code == 0
    until(lambda: not any(runs(each.pid) for each in (daemon, *members)), within=5)
