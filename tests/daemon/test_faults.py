"""What goes wrong around a change ends neither the daemon nor the server, and the status says what it was."""

import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.fakes.deployed import SOON, Deployed
from tests.fakes.home import Home, kill, until
from tests.fakes.scripted_server import behave, fake_server

ODD_FILES = {
    "a model in the folder of nobody": '[model]\npath = "~nobodyhere/m.gguf"',
    "keys in the folder of nobody": 'api_key_file = "~nobodyhere/keys"',
    "tables nested too deeply": f"extra_args = {'[' * 5000}{']' * 5000}",
    "a number of 5,000 digits": f"[context]\ntokens = {'9' * 5000}",
    "a NUL in a path": '[model]\npath = "/tmp/\\u0000.gguf"',
}
SMALL = "[context]\ntokens = 8192\nmin_tokens = 1024"
TOO_LARGE = '[context]\ntokens = 65536\nmin_tokens = 1024\n[supervise]\non_oom = "stop"'


@pytest.fixture
def daemon(home: Home) -> Iterator[Deployed]:
    """A home with the stand-in server; nothing runs yet."""
    with Deployed(home, fake_server(home)) as made:
        yield made


def behaves(daemon: Deployed, **behaviour: object) -> None:
    behave(daemon.home.path / "llama-server", **behaviour)


def text(home: Home, odd: str) -> str:
    return f'profile = "demo"\n[server]\nport = {home.port}\n{odd}\n'


def test_an_odd_file_is_told_and_the_server_lives_on(daemon: Deployed) -> None:
    daemon.start()
    until(lambda: daemon.serves(8192), SOON)
    pid = daemon.status()["pid"]
    for odd in ODD_FILES.values():
        before = daemon.number()
        daemon.config.write_text(text(daemon.home, odd))
        until(lambda: daemon.number() > before and not daemon.status()["config"]["valid"], SOON)  # noqa: B023
        told = daemon.status()
        assert told["config"]["error"].startswith("cannot ")
        assert "Error" not in told["config"]["error"], "an error of qwenctl's own words"
        assert told["ready"]
        assert told["pid"] == pid
        daemon.save()
        until(lambda: daemon.status()["config"]["valid"], SOON)
    assert daemon.ended() is None


@pytest.mark.parametrize("odd", ODD_FILES.values(), ids=ODD_FILES.keys())
def test_a_daemon_that_starts_with_an_odd_file_says_what_is_wrong(daemon: Deployed, odd: str) -> None:
    daemon.config.write_text(text(daemon.home, odd))
    daemon.start()
    until(lambda: daemon.ended() == 2, SOON)
    assert daemon.refusal()["code"] == "usage"
    assert daemon.refusal()["message"].startswith("cannot ")
    assert daemon.status() == {}


@pytest.mark.parametrize("edit", ["one that is rolled back", "one that is no TOML"])
def test_out_of_memory_takes_something_smaller_than_what_runs_whatever_the_file_says(
    daemon: Deployed, edit: str
) -> None:
    behaves(daemon, oom_above=40_000)
    daemon.save(SMALL)
    daemon.start()
    until(lambda: daemon.serves(8192), SOON)
    if edit == "one that is no TOML":
        daemon.save("[")
        until(lambda: not daemon.status()["config"]["valid"], SOON)
    else:
        daemon.save(TOO_LARGE)
        until(lambda: daemon.status()["rolled_back"] and daemon.status()["ready"], SOON)
        assert daemon.status()["plan"]["context_tokens"] == 8192
    behaves(daemon, oom_above=8000)
    kill(daemon.status()["pid"])
    until(lambda: daemon.status()["ready"] and daemon.status()["plan"]["context_tokens"] <= 8000, SOON)
    assert len(daemon.events("child_started")) < 10


def test_what_was_rolled_back_to_comes_back_after_a_restart_of_the_daemon(daemon: Deployed) -> None:
    behaves(daemon, oom_above=40_000)
    daemon.save(SMALL)
    daemon.start()
    until(lambda: daemon.serves(8192), SOON)
    daemon.save(TOO_LARGE)
    until(lambda: daemon.status()["rolled_back"] and daemon.status()["ready"], SOON)
    daemon.terminate()
    until(lambda: daemon.ended() == 0, SOON)
    daemon.start()
    until(lambda: daemon.status()["rolled_back"] and daemon.status()["ready"], SOON)
    assert daemon.status()["plan"]["context_tokens"] == 8192


def test_sigterm_in_the_first_moment_is_heard(daemon: Deployed) -> None:
    daemon.stall = "hang"
    daemon.start(profile="first")
    daemon.terminate()
    until(lambda: daemon.ended() == 0, SOON)
    assert daemon.status() == {}


def test_sigterm_is_heard_while_something_smaller_is_fetched(daemon: Deployed) -> None:
    profile = daemon.config.parent / "profiles/first.toml"
    quant = '\n[[quants]]\nname = "Q8_0"\nfiles = [{ name = "second-F16.gguf", bytes = 3000000 }]\n'
    quant += "token_embd_bytes = 133632\noutput_bytes = 133632\nestimated = true\n"
    quant += 'bits_per_weight = 8.0\nsource = "a test"\n\n[[rows]]'
    profile.write_text(profile.read_text().replace("\n[[rows]]", quant, 1))
    daemon.save(
        '[context]\ntokens = 8192\nmin_tokens = 8192\nkv_type = "f16"\ncache_ram_mib = 0\ncheckpoints = 0'
    )
    daemon.start(profile="first")
    until(lambda: daemon.serves(8192), SOON)
    daemon.stall = "hang"
    behaves(daemon, oom_above=8000)
    kill(daemon.status()["pid"])
    until(lambda: daemon.state() == "fetching" and daemon.arrived("second") == 2, SOON)
    assert daemon.status()["change"]["origin"] == "memory"
    daemon.terminate()
    until(lambda: daemon.ended() == 0, SOON)
    assert daemon.servers() == []


def test_the_watchdog_is_fed_while_planning_and_fetching(daemon: Deployed) -> None:
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard,
    ):
        heard.bind(f"{folder}/notify")
        heard.settimeout(SOON)
        daemon.home.environment |= {"NOTIFY_SOCKET": f"{folder}/notify", "WATCHDOG_USEC": "300000"}
        daemon.stall = "hang"
        daemon.hold.touch()
        behaves(daemon, holds=str(daemon.hold))
        daemon.start(profile="first")
        until(daemon.hold.with_suffix(".asked").exists, SOON)
        assert daemon.post("/v1/restart").is_success  # it was this that stopped the pings
        pings(heard, 5)
        assert daemon.state() == "planning"
        daemon.hold.unlink()
        until(lambda: daemon.state() == "fetching" and daemon.arrived("first") == 2, SOON)
        pings(heard, 5)
        assert daemon.state() == "fetching"


def pings(heard: socket.socket, number: int) -> None:
    """Forget what was said before, then hear so many pings."""
    heard.setblocking(False)
    try:
        while heard.recv(4096):
            pass
    except BlockingIOError:
        heard.settimeout(SOON)
    while number:
        number -= heard.recv(4096) == b"WATCHDOG=1"


def test_up_is_content_with_an_idle_daemon(daemon: Deployed) -> None:
    daemon.save("[gate]\nidle_unload_s = 0.1")
    daemon.start()
    until(lambda: daemon.status()["phase"] == "idle", SOON)
    assert daemon.home.run("up", "--timeout", "30").code == 0


def test_a_hub_that_refuses_says_nothing_against_the_file(daemon: Deployed) -> None:
    daemon.start()
    until(lambda: daemon.serves(8192), SOON)
    daemon.stall = "404"
    daemon.config.write_text(daemon.config.read_text().replace('"demo"', '"first"'))
    until(lambda: daemon.state() == "refused", SOON)
    assert daemon.ended() is None
    told = daemon.status()
    assert told["change"]["refused"]["code"] == "fetch"
    assert told["config"] == {"path": str(daemon.config), "valid": True, "error": None}
    assert daemon.events("config_invalid") == []
    assert daemon.asked() == told


def test_the_status_file_says_what_the_socket_says_of_requests(daemon: Deployed) -> None:
    daemon.start()
    until(lambda: daemon.serves(8192), SOON)
    behaves(daemon, hang="but_health")
    with httpx.Client(base_url=f"http://127.0.0.1:{daemon.home.port}", timeout=60) as client:
        asking = threading.Thread(target=lambda: client.post("/v1/completions", json={"prompt": "x"}))
        asking.start()
        until(lambda: daemon.asked()["in_flight"] == 1 and daemon.status()["in_flight"] == 1, SOON)
        behaves(daemon)
        kill(daemon.status()["pid"])  # the request is held, and asked again of the next server
        asking.join()
    until(lambda: daemon.asked()["in_flight"] == 0 and daemon.status()["in_flight"] == 0, SOON)


BROKEN = """
import asyncio, json, logging, sys
from pathlib import Path
from qwenctl import paths
from qwenctl.daemon.deployment import Deployment
from qwenctl.daemon.event_log import EventLog
from qwenctl.daemon.gateway import Gateway
from qwenctl.daemon.troubles import Troubles
from qwenctl.deploy.types import PlanRequest
from qwenctl.errors import QwenctlError
from qwenctl.supervise.policy import Policy
from qwenctl.supervise.supervisor import Effects, Supervisor

class Broken(Gateway):
    whole = False
    async def prepare(self, settings, trial):
        if not self.whole:
            1 / 0

async def main():
    folder = paths.private_dir(paths.state_dir())
    nothing = Effects(*[lambda *_: None] * 8)
    supervisor, troubles = Supervisor(nothing, Policy()), Troubles()
    gateway = Broken(None, troubles)
    events = EventLog(folder / "events.jsonl")
    deployment = Deployment(PlanRequest(folder), supervisor, gateway, troubles, events)
    refused = await deployment.given_over(deployment.begin())
    gateway.whole = True
    later = await deployment.given_over(deployment.ask("reload"))
    on_trial = deployment.state.trial is not None
    print(json.dumps([refused.why.code, refused.why.message, later is None, on_trial]))
    deployment.close()

logging.basicConfig()
asyncio.run(main())
"""


def test_an_unexpected_error_parks_the_change_and_the_next_wish_is_heard(daemon: Deployed) -> None:
    """The door to the network is broken in a way that nobody has thought of."""
    done = subprocess.run(
        [sys.executable, "-c", BROKEN],
        env=daemon.home.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith('["bug", "cannot go on: ZeroDivisionError: division by zero'), done.stderr
    assert done.stdout.endswith("true, true]\n")
    assert "Traceback" in done.stderr
    assert "in prepare" in done.stderr
