"""The status says what is so, also of the requests at the gate; it is left alone while nothing changes."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.fakes.home import Home, kill, until
from tests.fakes.scripted_server import behave, fake_server

ASK = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
FILLED = [{"id": 0, "is_processing": False, "n_prompt_tokens": 5000, "prompt": "once upon a time"}]
WITHIN = 20
RESTORE_S = 2.5
FRESH_S = 2
"""The status counts requests within a second; the rest is for a busy machine."""


def ask(endpoint: str) -> int:
    return httpx.post(f"{endpoint}/chat/completions", json=ASK, timeout=60).status_code


def written(home: Home) -> tuple[int, int]:
    """Which file the status is now: each time it is written it is another one."""
    stat = (home.state / "status.json").stat()
    return stat.st_ino, stat.st_mtime_ns


def test_a_server_whose_slots_come_back_is_not_called_ready_while_requests_wait_for_them(home: Home) -> None:
    binary = fake_server(home, busy=FILLED)
    endpoint = home.up()
    assert home.run("restart").code == 0  # saved now
    behave(binary, busy=FILLED, restore_s=RESTORE_S)
    first = home.status()["pid"]
    with ThreadPoolExecutor() as clients:
        kill(first)
        until(lambda: home.status()["pid"] not in (first, None), WITHIN)
        answer = clients.submit(ask, endpoint)
        until(lambda: home.status()["phase"] == "restoring", WITHIN)
        since = time.monotonic()
        until(lambda: home.status()["held"] == 1, FRESH_S)
        status = home.run("--json", "status")
        assert (status.code, '"phase": "restoring"' in status.out) == (7, True)
        until(lambda: home.status()["ready"], WITHIN)
        assert time.monotonic() - since > RESTORE_S - 0.5  # it was seen a moment after it began
        assert answer.result() == 200
    until(lambda: home.status()["held"] == 0, FRESH_S)


def test_what_is_in_flight_is_counted_within_a_second_and_nothing_is_written_while_it_stays(
    home: Home,
) -> None:
    binary = fake_server(home)
    endpoint = home.up()
    behave(binary, answer_s=4)
    with ThreadPoolExecutor() as clients:
        answers = [clients.submit(ask, endpoint) for _ in range(3)]
        until(lambda: home.status()["in_flight"] == 3, FRESH_S)
        before = written(home)
        assert [answer.result() for answer in answers] == [200, 200, 200]
        assert written(home) == before
    until(lambda: home.status()["in_flight"] == 0, FRESH_S)


def test_many_quick_requests_write_the_status_once_a_second_at_most(home: Home) -> None:
    fake_server(home)
    endpoint = home.up()

    def ask_often(times: int) -> set[int]:
        with httpx.Client(timeout=60) as client:
            return {client.post(f"{endpoint}/chat/completions", json=ASK).status_code for _ in range(times)}

    last, writes, since = written(home), 0, time.monotonic()
    with ThreadPoolExecutor() as clients:
        answers = [clients.submit(ask_often, 100) for _ in range(4)]
        while not all(answer.done() for answer in answers):
            before, last = last, written(home)
            writes += last != before
        assert [answer.result() for answer in answers] == [{200}] * 4
    assert writes <= 2 + (time.monotonic() - since)
