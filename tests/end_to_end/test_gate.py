"""The gate in the daemon: a restart is a pause, not an error."""

import asyncio
import json
import threading
from typing import Any

import aiohttp
import httpx
import pytest

from tests.fakes.home import Home, kill, until
from tests.gate.talk import FLAGS, Talk

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


def test_an_edit_of_the_gate_and_of_its_address_cuts_no_answer(home: Home) -> None:
    """The stream is longer than all buffers, so it goes on for as long as its client does not read."""
    home.up()
    before, other = home.status()["pid"], Home(home.path, "qwenctl_test_root", home.path).port
    url = f"http://127.0.0.1:{home.port}"
    endless = {"prompt": "hi", "n_predict": 2500, "stream": True, "ignore_eos": True, "n_probs": 50}
    with httpx.stream("POST", f"{url}/completion", json=endless, timeout=60) as answer:
        pieces = answer.iter_bytes()
        body = next(pieces)
        config = home.path / ".config/qwenctl/config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text('[gate]\nallowed_hosts = ["llm.home"]\nmax_held = 7\nidle_unload_s = 3600\n')
        named = {"Host": "llm.home"}
        until(lambda: httpx.get(f"{url}/health", headers=named).status_code == 200, within=20)
        assert home.run("up", "--port", str(other)).code == 0
        assert httpx.get(f"http://127.0.0.1:{other}/health", headers=named).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")
        until(lambda: home.status()["in_flight"] == 1, within=20)  # the file may lag behind
        body += b"".join(pieces)
    assert b'"stop":true' in body[-20_000:]
    assert b'"error"' not in body
    assert home.status()["pid"] == before


def test_without_the_gate_the_server_has_the_port_itself(home: Home) -> None:
    home.environment["QWENCTL_GATE__ENABLED"] = "false"
    endpoint = home.up()
    assert httpx.post(f"{endpoint}/chat/completions", json=ASK, timeout=60).status_code == 200
    assert "--port" in home.json("argv")["data"]["argv"]
    with owner(home) as client:
        refused = client.get("/slots")
    assert (refused.status_code, refused.json()["error"]["hint"]) == (400, "[gate] enabled")


def test_an_unused_server_is_stopped_and_the_next_request_starts_it(home: Home) -> None:
    home.environment["QWENCTL_GATE__IDLE_UNLOAD_S"] = "0.5"
    endpoint = home.up()
    until(lambda: home.status()["phase"] == "idle", within=20)
    assert home.run("status").code == 0
    assert home.status()["pid"] is None
    assert httpx.post(f"{endpoint}/chat/completions", json=ASK, timeout=60).status_code == 200


def test_a_web_page_may_not_use_the_model(served: Home) -> None:
    endpoint = served.status()["endpoint"]
    foreign = {"Origin": "https://evil.example"}
    assert httpx.post(f"{endpoint}/chat/completions", json=ASK, headers=foreign).status_code == 403
    rebound = {"Host": "evil.example"}
    assert httpx.get(f"{endpoint}/models", headers=rebound).status_code in (403, 421)
    assert httpx.get(f"{endpoint.removesuffix('/v1')}/slots").status_code in (403, 404)


def owner(home: Home) -> httpx.Client:
    """Whoever may open the control socket."""
    transport = httpx.HTTPTransport(uds=str(home.state / "control.sock"))
    return httpx.Client(transport=transport, base_url="http://x", timeout=30)


def test_the_owner_reaches_the_slots_through_the_control_socket(home: Home) -> None:
    """To look, save, erase and restore; without a key, where others need one."""
    (home.path / "keys").write_text("sesame\n")
    home.environment["QWENCTL_SERVER__API_KEY_FILE"] = str(home.path / "keys")
    endpoint = home.up()
    ask = {"prompt": "once upon a time", "n_predict": 0}
    right = {"Authorization": "Bearer sesame"}
    public = endpoint.removesuffix("/v1")
    assert httpx.post(f"{public}/completion", json=ask, headers=right, timeout=60).status_code == 200
    with owner(home) as client:
        [slot] = client.get("/slots").json()
        assert (slot["id"], slot["n_prompt_tokens"]) == (0, 16)
        for action, counted in (("save", "n_saved"), ("erase", "n_erased"), ("restore", "n_restored")):
            done = client.post(f"/slots/0?action={action}", json={"filename": "mine.bin"})
            assert (done.status_code, done.json()[counted]) == (200, 16)
    for headers in ({}, right):
        assert httpx.post(f"{public}/slots/0?action=erase", headers=headers).status_code == 403


@pytest.mark.parametrize("faithful", [True, False], ids=["faithful", "dropping"])
def test_a_conversation_survives_a_restart_and_a_kill(home: Home, *, faithful: bool) -> None:
    """What the slot held comes from the cache: the manifest counted it, the server says what it reused."""
    home.environment |= {
        "QWENCTL_GATE__WARM_AFTER_S": "0.05",
        "QWENCTL_GATE__WARM_MIN_TOKENS": "300",
        "QWENCTL_SERVER__EXTRA_ARGS": json.dumps(FLAGS),
    }
    base = home.up().removesuffix("/v1")

    async def converse() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            talk = Talk(base, session, faithful, tools=True)
            await talk.say("once upon a time " * 80)
            await talk.say("and then? " * 60)
            assert (await asyncio.to_thread(home.run, "restart")).code == 0
            held = saved_tokens(home)
            assert held >= 0.97 * (talk.cached + talk.processed)
            await talk.say("and what then? " * 40)
            assert talk.cached >= 0.99 * held
            now = talk.cached + talk.processed
            await asyncio.to_thread(until, lambda: saved_tokens(home) >= 0.97 * now, 20)
            held, server = saved_tokens(home), home.status()["pid"]
            kill(server)
            await talk.say("and at last?")
            assert home.status()["pid"] != server
            assert talk.cached >= 0.99 * held

    asyncio.run(converse())


def saved_tokens(home: Home) -> int:
    """What the saved slot holds."""
    path = home.state / "warm/warm.json"
    told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"snapshots": []}
    return max((each["tokens"] for each in told["snapshots"]), default=0)
