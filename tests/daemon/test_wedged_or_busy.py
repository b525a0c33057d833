"""A wedged server is found though its clients leave; a busy one is never ended. With the real daemon."""

import concurrent.futures
import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.fakes.deployed import Deployed
from tests.fakes.home import Home, until
from tests.fakes.scripted_server import behave, fake_server

WEDGE_AFTER_S = 2.0
FOUND_S = 40.0
LONG = "word " * 1000


def settings(after_s: float) -> str:
    context = "[context]\ntokens = 16384\nmin_tokens = 2048\nparallel = 1"
    return f"{context}\n[supervise]\nwedge_after_s = {after_s}\n"


@contextlib.contextmanager
def leaving(daemon: Deployed, timeout_s: float, pause_s: float, *, stream: bool = False) -> Iterator[None]:
    """A client that leaves after ``timeout_s``, comes back ``pause_s`` later, and never stops."""
    over = threading.Event()
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "stream": stream}

    def go_on() -> None:
        url = f"http://127.0.0.1:{daemon.home.port}/v1/chat/completions"
        while not over.is_set():
            with contextlib.suppress(httpx.HTTPError):
                httpx.post(url, json=body, timeout=timeout_s)
            over.wait(pause_s)

    client = threading.Thread(target=go_on)
    client.start()
    try:
        yield
    finally:
        over.set()
        client.join()


@pytest.mark.parametrize(
    ("timeout_s", "pause_s", "stream"), [(1.0, 1.2, False), (1.0, 0.2, True), (0.3, 0.3, False)]
)
def test_a_stopped_server_is_found_though_its_clients_leave(
    home: Home, timeout_s: float, pause_s: float, *, stream: bool
) -> None:
    with Deployed(home) as daemon:
        daemon.save(settings(WEDGE_AFTER_S))
        daemon.start()
        until(lambda: daemon.status()["ready"], FOUND_S)
        with leaving(daemon, timeout_s, pause_s, stream=stream):
            os.kill(daemon.status()["pid"], signal.SIGSTOP)
            until(lambda: daemon.events("child_ended"), FOUND_S)
        assert [one["cause"] for one in daemon.events("child_ended")] == ["wedged"]


@pytest.mark.parametrize("hang", ["all", "but_health"])
def test_a_server_that_hangs_is_found_though_others_ask_for_its_health(bare_home: Home, hang: str) -> None:
    """Answers of ``/health`` and ``/v1/models`` are no progress."""
    with Deployed(bare_home, fake_server(bare_home)) as daemon:
        daemon.save(settings(WEDGE_AFTER_S))
        daemon.start()
        until(lambda: daemon.status()["ready"], FOUND_S)
        behave(bare_home.path / "llama-server", hang=hang, sick_pid=daemon.status()["pid"])

        def healthy() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"http://127.0.0.1:{bare_home.port}/health", timeout=0.2)
            return bool(daemon.events("child_ended"))

        with leaving(daemon, 1.0, 0.5):
            until(healthy, FOUND_S)
        assert [one["cause"] for one in daemon.events("child_ended")] == ["wedged"]


@pytest.mark.parametrize("clients", [20, pytest.param(64, marks=pytest.mark.chaos)])
def test_a_busy_server_with_one_slot_is_left_alone(home: Home, clients: int) -> None:
    """Its ``/slots`` and its probe are not answered, since every thread of its HTTP server waits."""
    with Deployed(home) as daemon:
        daemon.save(settings(0.5))
        daemon.start()
        until(lambda: daemon.status()["ready"], FOUND_S)
        url = f"http://127.0.0.1:{home.port}/completion"

        def ask(number: int) -> int:
            prompt = LONG if number % 20 == 0 else f"{number} times"
            body = {"prompt": prompt, "n_predict": 60, "ignore_eos": True}
            return httpx.post(url, json=body, timeout=240).status_code

        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            answers = list(pool.map(ask, range(clients)))
        assert set(answers) == {200}
        assert daemon.events("child_ended") == []


def test_a_quiet_server_that_answers_one_request_after_the_other_is_left_alone(bare_home: Home) -> None:
    """It sleeps while it answers, as a host does whose GPU nobody can measure."""
    with Deployed(bare_home, fake_server(bare_home)) as daemon:
        daemon.save(settings(2.0))
        daemon.start()
        until(lambda: daemon.status()["ready"], FOUND_S)
        url = f"http://127.0.0.1:{bare_home.port}/v1/chat/completions"
        behave(bare_home.path / "llama-server", answer_s=2.5, one_slot=True)
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            answers = list(pool.map(lambda _: httpx.post(url, json={}, timeout=120).status_code, range(5)))
        assert set(answers) == {200}
        assert daemon.events("child_ended") == []
