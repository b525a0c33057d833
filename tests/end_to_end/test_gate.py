"""The gate in the daemon: a restart is a pause, not an error."""

import threading

import httpx

from tests.fakes.home import Home, kill, until

ASK = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


def test_requests_wait_while_the_server_is_replaced(home: Home) -> None:
    endpoint = home.up()
    first = home.status()["pid"]
    codes: list[int] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            codes.append(httpx.post(f"{endpoint}/chat/completions", json=ASK, timeout=60).status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        until(lambda: len(codes) > 2, within=30)
        kill(first)
        until(lambda: home.status()["ready"] and home.status()["pid"] != first, within=30)
        assert home.run("restart").code == 0
        assert home.run("up", "--ctx", "2048").code == 0
    finally:
        done.set()
        asking.join(60)
    assert set(codes) == {200}


def test_a_port_changes_without_a_restart_of_the_server(home: Home) -> None:
    home.up()
    before, other = home.status()["pid"], Home(home.path, "qwenctl_test_root", home.path).port
    assert home.run("up", "--port", str(other)).code == 0
    assert home.status()["pid"] == before
    assert httpx.get(f"http://127.0.0.1:{other}/health").status_code == 200


def test_without_the_gate_the_server_has_the_port_itself(home: Home) -> None:
    home.environment["QWENCTL_GATE__ENABLED"] = "false"
    endpoint = home.up()
    assert httpx.post(f"{endpoint}/chat/completions", json=ASK, timeout=60).status_code == 200
    assert "--port" in home.json("argv")["data"]["argv"]


def test_an_unused_server_is_stopped_and_the_next_request_starts_it(home: Home) -> None:
    home.environment["QWENCTL_GATE__IDLE_UNLOAD_S"] = "0.5"
    endpoint = home.up()
    until(lambda: home.status()["phase"] == "idle", within=20)
    assert home.run("status").code == 0
    assert home.status()["pid"] is None
    assert httpx.post(f"{endpoint}/chat/completions", json=ASK, timeout=60).status_code == 200


def test_a_web_page_may_not_use_the_model(home: Home) -> None:
    endpoint = home.up()
    foreign = {"Origin": "https://evil.example"}
    assert httpx.post(f"{endpoint}/chat/completions", json=ASK, headers=foreign).status_code == 403
    rebound = {"Host": "evil.example"}
    assert httpx.get(f"{endpoint}/models", headers=rebound).status_code in (403, 421)
    assert httpx.get(f"{endpoint.removesuffix('/v1')}/slots").status_code in (403, 404)


def test_the_owner_reaches_the_slots_through_the_control_socket(home: Home) -> None:
    home.up()
    transport = httpx.HTTPTransport(uds=str(home.state / "control.sock"))
    with httpx.Client(transport=transport, base_url="http://x", timeout=30) as client:
        slots = client.get("/slots")
    assert slots.status_code == 200
    assert slots.json()[0]["id"] == 0
