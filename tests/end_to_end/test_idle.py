"""A server that nobody uses is stopped; whoever comes while it stops, or after it, is answered."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.fakes.home import Home, until
from tests.fakes.scripted_server import fake_server

ASK = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
FILLED = [{"id": 0, "is_processing": False, "n_prompt_tokens": 5000, "prompt": "once upon a time"}]
WITHIN = 30


def ask(endpoint: str) -> int:
    return httpx.post(f"{endpoint}/chat/completions", json=ASK, timeout=WITHIN).status_code


@pytest.mark.parametrize(
    ("phase", "behaviour"),
    [("draining", {"save_s": 1.5, "busy": FILLED}), ("stopping", {"term_s": 1.5})],
    ids=["while its slots are saved", "while it stops"],
)
def test_who_comes_while_an_idle_server_is_stopped_is_answered_by_the_next_one(
    home: Home, phase: str, behaviour: dict[str, object]
) -> None:
    fake_server(home, **behaviour)
    home.environment["QWENCTL_GATE__IDLE_UNLOAD_S"] = "0.5"
    endpoint = home.up()
    first = home.status()["pid"]
    until(lambda: home.status()["phase"] == phase, WITHIN)
    with ThreadPoolExecutor() as clients:
        answers = [clients.submit(ask, endpoint) for _ in range(3)]
        assert [answer.result() for answer in answers] == [200, 200, 200]
    assert home.status()["pid"] not in (first, None)
    assert home.status()["troubles"] == []


def test_who_comes_at_any_moment_of_many_unloads_is_answered(home: Home) -> None:
    """The real server, which is unloaded as soon as nobody asks; four clients come as they are answered."""
    home.environment["QWENCTL_GATE__IDLE_UNLOAD_S"] = "0.01"
    endpoint = home.up()

    def come_again(patient: bool) -> list[int]:  # noqa: FBT001 - one of two kinds
        codes = []
        for _ in range(8):
            until(lambda: not patient or home.status()["phase"] != "ready", WITHIN)
            codes.append(ask(endpoint))
        return codes

    with ThreadPoolExecutor() as clients:
        told = [clients.submit(come_again, number % 2 == 0) for number in range(4)]
        assert {code for each in told for code in each.result()} == {200}
    unloads = [json.loads(line)["event"] for line in (home.state / "events.jsonl").read_text().splitlines()]
    assert unloads.count("child_started") > 2


def test_an_idle_daemon_says_so_and_up_is_content_with_it(home: Home) -> None:
    home.environment["QWENCTL_GATE__IDLE_UNLOAD_S"] = "0.5"
    endpoint = home.up()
    until(lambda: home.status()["phase"] == "idle", WITHIN)
    shown = home.json("status")
    assert shown["ok"]
    names = ("phase", "ready", "pid", "held", "in_flight", "endpoint", "troubles")
    assert {name: shown["data"][name] for name in names} == {
        "phase": "idle",
        "ready": False,
        "pid": None,
        "held": 0,
        "in_flight": 0,
        "endpoint": endpoint,
        "troubles": [],
    }
    again = home.json("up")
    assert (again["ok"], again["data"]["changed"]) == (True, False)
    assert home.status()["phase"] == "idle"
    assert ask(endpoint) == 200
