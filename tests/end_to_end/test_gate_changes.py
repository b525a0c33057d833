"""A change that is refused or rolled back leaves the endpoint as it was. On the real server."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx
import psutil
import pytest

from qwenctl.control.call import call
from tests.fakes.gate_clients import Editor
from tests.fakes.home import Home, free_port, until

WITHIN = 30.0
ASK = {"prompt": "hi", "n_predict": 4}
ENDLESS = {"prompt": "hi", "n_predict": 2500, "stream": True, "ignore_eos": True, "n_probs": 50}
FAILS = 'extra_args = ["--numa", "nonsense"]'
"""Only the server can know that the value is wrong: it ends, and the configuration before it comes back."""


def base(port: int, server: str = "", gate: str = "") -> str:
    return f'profile = "demo"\n[server]\nport = {port}\n{server}\n[gate]\n{gate}\n'


@pytest.fixture
def editor(home: Home) -> Editor:
    """The editor of a home whose server runs by its config file alone."""
    editor = Editor(home)
    editor.save(base(home.port))
    ran = home.run("up")
    assert ran.code == 0, ran.err
    return editor


def answers(port: int) -> bool:
    """Whether the model answers there."""
    with suppress(httpx.TransportError):
        return httpx.post(f"http://127.0.0.1:{port}/completion", json=ASK, timeout=60).status_code == 200
    return False


def accepts(port: int) -> bool:
    """Whether anybody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def state_of_change(home: Home) -> str:
    state: str = home.status()["change"]["state"]
    return state


def listening(home: Home) -> list[int]:
    """The ports at which the daemon listens."""
    connections = psutil.Process(home.status()["daemon_pid"]).net_connections("inet")
    return [found.laddr.port for found in connections if found.status == psutil.CONN_LISTEN]


@contextmanager
def thief(port: int) -> Iterator[threading.Event]:
    """Take the port as soon as it is free. The event is set then; the port is free again after the block."""
    took, over = threading.Event(), threading.Event()

    def steal() -> None:
        while not over.is_set():
            with suppress(OSError), socket.socket() as stolen:
                stolen.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                stolen.bind(("127.0.0.1", port))
                stolen.listen()
                took.set()
                over.wait(WITHIN)
                return

    stealing = threading.Thread(target=steal)
    stealing.start()
    try:
        yield took
    finally:
        over.set()
        stealing.join()


def test_to_leave_out_the_gate_at_a_taken_port_is_refused_and_the_endpoint_stays(
    home: Home, editor: Editor
) -> None:
    before = home.status()["pid"]
    with socket.create_server(("127.0.0.1", 0)) as other:
        editor.save(base(other.getsockname()[1], gate="enabled = false"))
        until(lambda: state_of_change(home) == "refused", WITHIN)
        assert answers(home.port)
        status = home.status()
        assert (status["pid"], status["troubles"]) == (before, [])
        assert "already in use" in status["change"]["refused"]["message"]
        assert status["endpoint"] == f"http://127.0.0.1:{home.port}/v1"


def test_a_port_that_was_taken_during_a_trial_is_opened_again_once_it_is_free(
    home: Home, editor: Editor
) -> None:
    """The server on trial was to have the port itself, so that the gate had closed it."""
    with thief(home.port) as took:
        editor.save(base(home.port, FAILS, "enabled = false"))
        assert took.wait(WITHIN)
        until(lambda: home.status()["rolled_back"] and home.status()["phase"] == "ready", WITHIN)
        [trouble] = home.status()["troubles"]
        assert f"cannot listen on 127.0.0.1:{home.port}: " in trouble
        assert home.status()["endpoint"] == f"http://127.0.0.1:{home.port}/v1"
    until(lambda: answers(home.port), WITHIN)
    until(lambda: home.status()["troubles"] == [], WITHIN)
    assert listening(home) == [home.port]


def test_the_old_port_serves_until_a_configuration_with_a_new_one_is_proved(
    home: Home, editor: Editor
) -> None:
    """An answer that nobody reads yet keeps the old server draining, and so the trial from its end."""
    old, new = home.port, free_port()
    with (
        ThreadPoolExecutor() as clients,
        httpx.stream("POST", f"http://127.0.0.1:{old}/completion", json=ENDLESS, timeout=60) as answer,
    ):
        pieces = answer.iter_bytes()
        body = next(pieces)
        editor.save(base(new, FAILS))
        until(lambda: home.status()["phase"] == "draining", WITHIN)
        assert (accepts(old), accepts(new)) == (True, True)
        held = [clients.submit(answers, port) for port in (old, new, old)]
        until(lambda: call(home.state, "GET", "/v1/status")["held"] == 3, WITHIN)  # type: ignore[index]
        body += b"".join(pieces)
        assert b'"stop":true' in body[-20_000:]
        assert [each.result() for each in held] == [True, True, True]
    until(lambda: home.status()["rolled_back"] and not accepts(new), WITHIN)
    assert answers(old)
    assert (listening(home), home.status()["troubles"]) == ([old], [])


def test_of_many_changes_at_once_the_last_one_says_where_the_gate_listens(home: Home, editor: Editor) -> None:
    """Files and flags, good ones and one that is rolled back, while others are still on their way."""
    ports = [free_port() for _ in range(6)]
    editor.save(base(ports[0], FAILS))
    until(lambda: state_of_change(home) == "trial", WITHIN)
    with ThreadPoolExecutor() as askers:
        flags = [{"flags": {"server": {"port": port, "extra_args": []}}} for port in ports[1:5]]
        for done in [askers.submit(call, home.state, "POST", "/v1/apply", each) for each in flags]:
            assert isinstance(done.result(), dict)
    editor.save(base(ports[0], gate="max_held = 9"))
    number = call(home.state, "POST", "/v1/apply", {"flags": {"server": {"port": ports[5]}}})
    assert isinstance(number, dict)
    until(lambda: home.status()["change"]["number"] >= number["change"], WITHIN)
    until(lambda: state_of_change(home) == "settled" and home.status()["ready"], WITHIN)
    until(lambda: listening(home) == [ports[5]], WITHIN)
    assert answers(ports[5])
    assert home.status()["troubles"] == []
    assert httpx.get(f"http://127.0.0.1:{ports[5]}/health").status_code == 200


def test_the_gate_comes_and_goes_on_the_same_port(home: Home, editor: Editor) -> None:
    """While one waits for the port the other still has, the status says so; afterwards nothing is wrong."""
    for enabled in ("false", "true", "false", "true"):
        number, pid = editor.number(), home.status()["pid"]
        editor.save(base(home.port, gate=f"enabled = {enabled}"))
        until(lambda after=number: home.status()["change"]["number"] > after, WITHIN)  # type: ignore[misc]
        until(lambda: state_of_change(home) in ("settled", "refused"), WITHIN)
        status = home.status()
        assert status["change"]["refused"] is None
        assert status["pid"] not in (pid, None)
        assert ("--port" in home.json("argv")["data"]["argv"]) is (enabled == "false")
        until(lambda: answers(home.port), WITHIN)
        until(lambda: home.status()["troubles"] == [], WITHIN)
        assert bool(listening(home)) is (enabled == "true")


def test_a_server_without_a_gate_that_cannot_start_gives_the_port_back(home: Home, editor: Editor) -> None:
    editor.save(base(home.port, FAILS, "enabled = false"))
    until(lambda: home.status()["rolled_back"] and home.status()["ready"], WITHIN)
    until(lambda: answers(home.port), WITHIN)
    assert home.status()["endpoint"] == f"http://127.0.0.1:{home.port}/v1"
    told = [json.loads(line) for line in (home.state / "events.jsonl").read_text().splitlines()]
    assert "rolled_back" in [event["event"] for event in told]
