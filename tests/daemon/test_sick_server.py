"""A server that runs and answers every request with an error is found out, ended and replaced.

The stand-in turns sick while the daemon serves; its next process is well.
"""

import concurrent.futures
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.deployed import SOON, Deployed
from tests.fakes.home import Home, until
from tests.fakes.scripted_server import behave, fake_server

LOST = "decode() failed: vk::Queue::submit: ErrorDeviceLost"
METAL = "Compute error."
PATHS = ("/v1/chat/completions", "/completion", "/v1/embeddings")


@pytest.fixture
def daemon(bare_home: Home) -> Iterator[Deployed]:
    """A daemon that serves the stand-in."""
    with Deployed(bare_home, fake_server(bare_home)) as made:
        made.start()
        until(lambda: made.status()["ready"], SOON)
        yield made


def turn_sick(daemon: Deployed, text: str = LOST, **how: object) -> int:
    """Let the present process turn sick; return its pid."""
    pid: int = daemon.status()["pid"]
    behave(daemon.home.path / "llama-server", sick=text, sick_pid=pid, **how)
    return pid


def ask(
    daemon: Deployed, path: str = PATHS[0], words: str = "hello", *, stream: bool = False
) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": words}], "prompt": words, "stream": stream}
    return httpx.post(f"http://127.0.0.1:{daemon.home.port}{path}", json=body, timeout=SOON)


def ends(daemon: Deployed) -> list[dict[str, Any]]:
    """How servers have ended so far."""
    return daemon.events("child_ended")


@pytest.mark.parametrize("path", PATHS)
def test_a_request_to_a_sick_server_is_answered_by_the_next_one(daemon: Deployed, path: str) -> None:
    sick = turn_sick(daemon)
    answer = ask(daemon, path)
    assert answer.status_code == 200
    assert answer.json()["pid"] != sick
    assert [(one["cause"], one["permanent"]) for one in ends(daemon)] == [("gpu_lost", False)]
    assert LOST in ends(daemon)[0]["summary"]
    assert daemon.status()["restarts"]["by_cause"] == {"gpu_lost": 1}


@pytest.mark.parametrize("how", ["event", "status"])
def test_a_stream_whose_first_event_is_the_error_is_sent_again(daemon: Deployed, how: str) -> None:
    turn_sick(daemon, how=how)
    answer = ask(daemon, stream=True)
    assert "error" not in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")
    assert [one["cause"] for one in ends(daemon)] == ["gpu_lost"]


def test_a_stream_that_meets_the_error_is_finished_by_the_next_server(daemon: Deployed) -> None:
    """Part of the answer has left. The error is withheld, and asked for the rest this server fails again."""
    sick = turn_sick(daemon, how="late")
    answer = ask(daemon, stream=True).text
    assert ": continued" in answer
    assert LOST not in answer
    assert answer.endswith("data: [DONE]\n\n")
    assert [one["cause"] for one in ends(daemon)] == ["gpu_lost"]
    assert ask(daemon).json()["pid"] != sick


@pytest.mark.parametrize("how", ["long", "short", "closes", "garbage", "cut"])
def test_a_server_that_sends_no_whole_answer_is_replaced(daemon: Deployed, how: str) -> None:
    sick = turn_sick(daemon, how=how)
    stream = how == "cut"
    for _ in range(4):
        try:
            answer = ask(daemon, stream=stream)
        except httpx.HTTPError:
            continue
        if answer.status_code == 200 and "server_restarted" not in answer.text:
            break
    until(lambda: ends(daemon), SOON)
    assert ask(daemon).json()["pid"] != sick
    assert len(ends(daemon)) == 1


def test_many_requests_at_once_are_all_answered_by_the_next_server(daemon: Deployed) -> None:
    sick = turn_sick(daemon)
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: ask(daemon), range(24)))
    assert {answer.status_code for answer in answers} == {200}
    assert sick not in {answer.json()["pid"] for answer in answers}
    assert len(ends(daemon)) == 1


def test_memory_that_ran_out_leads_to_something_smaller(daemon: Deployed) -> None:
    turn_sick(daemon, "decode() failed: std::bad_alloc")
    assert ask(daemon).status_code == 200
    assert [one["cause"] for one in ends(daemon)] == ["host_out_of_memory"]
    assert len(daemon.events("degraded")) == 1


def test_a_request_that_makes_two_servers_sick_gets_its_error(daemon: Deployed) -> None:
    """Whatever it is, the next request has a server."""
    binary = daemon.home.path / "llama-server"
    behave(binary, sick=METAL, sick_by="poison")
    answer = ask(daemon, words="poison")
    assert (answer.status_code, answer.json()["error"]["message"]) == (500, METAL)
    assert ask(daemon).status_code == 200
    assert len(ends(daemon)) == 2


def test_an_error_of_a_server_that_still_generates_is_passed_on(daemon: Deployed) -> None:
    behave(daemon.home.path / "llama-server", own_fault="hello", own_text=METAL)
    for _ in range(6):
        answer = ask(daemon)
        assert (answer.status_code, answer.json()["error"]["message"]) == (500, METAL)
    assert ends(daemon) == []


def test_errors_that_are_the_requests_own_end_no_server(daemon: Deployed) -> None:
    """Their text has words of the client in it, which look like a lost device."""
    behave(daemon.home.path / "llama-server", own_fault="hello")
    for number in range(60):
        words = "hello" if number % 20 == 0 or number > 40 else "well"
        assert ask(daemon, words=words).status_code == (500 if words == "hello" else 200)
    assert ends(daemon) == []
    assert json.loads(ask(daemon).text)["error"]["message"].startswith("Failed to apply template")
