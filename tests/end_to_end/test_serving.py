"""The main job on the real server: it serves, comes back, and leaves nothing behind."""

import json

import httpx
import psutil
from openai import OpenAI

from tests.fakes.home import Home, free_port, kill, runs, until

QUESTION = [{"role": "user", "content": "hi"}]


def test_the_openai_client_gets_an_answer_streaming_and_not(served: Home) -> None:
    with OpenAI(base_url=served.status()["endpoint"], api_key="none", max_retries=0) as client:
        whole = client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=8,
            extra_body={"ignore_eos": True},
        )
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 8
        assert whole.model == "demo"
        with client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=8,
            stream=True,
            extra_body={"ignore_eos": True},
        ) as stream:
            reasons = [choice.finish_reason for chunk in stream for choice in chunk.choices]
        assert reasons[-1] == "length"


def test_up_says_that_the_weights_are_random(home: Home) -> None:
    ran = home.run("up", "--profile", "demo", "--port", str(home.port))
    assert "random" in ran.err
    assert ran.out == f"http://127.0.0.1:{home.port}/v1\n"


def test_up_again_changes_nothing(served: Home) -> None:
    before = served.status()
    again = served.json("up")
    assert again["data"]["changed"] is False
    assert served.status()["pid"] == before["pid"]


def test_flags_of_up_reach_a_running_daemon_and_are_kept_until_reset(home: Home) -> None:
    home.up()
    first = home.status()["pid"]
    assert home.json("up", "--ctx", "1024")["data"]["changed"] is True
    until(lambda: home.status()["pid"] not in (first, None), within=20)
    assert home.status()["plan"]["context_tokens"] == 1024
    assert home.json("settings")["data"]["context.tokens"] == {"value": 1024, "origin": "up"}
    home.run("down")
    assert home.run("up", "--reset", "--profile", "demo", "--port", str(home.port)).code == 0
    assert home.json("settings")["data"]["context.tokens"] == {"value": 8192, "origin": "profile"}


def test_a_wrong_flag_for_a_running_daemon_leaves_the_server_alone(served: Home) -> None:
    before = served.status()
    ran = served.run("up", "--quant", "Q9_X")
    assert ran.code == 2
    assert ran.err.startswith("cannot ")
    assert {**served.status(), "change": before["change"]} == before
    assert served.status()["change"]["refused"]["code"] == "usage"
    assert served.run("status").code == 0


def test_a_killed_server_comes_back_by_itself(home: Home) -> None:
    endpoint = home.up()
    first = home.status()["pid"]
    kill(first)
    until(lambda: home.status()["pid"] not in (first, None) and home.status()["ready"], within=20)
    assert home.status()["restarts"] == {"total": 1, "by_cause": {"killed": 1}}
    answer = httpx.post(f"{endpoint}/chat/completions", json={"messages": QUESTION, "max_tokens": 2})
    assert answer.status_code == 200


def test_no_server_survives_a_killed_daemon_and_the_next_up_works(home: Home) -> None:
    home.up()
    status = home.status()
    kill(status["daemon_pid"])
    until(lambda: not runs(status["pid"]), within=5)
    assert home.run("status").code == 3
    home.up()
    assert home.status()["ready"] is True


def test_restart_brings_another_server(served: Home) -> None:
    before = served.status()["pid"]
    assert served.run("restart").code == 0
    assert served.status()["pid"] not in (before, None)


def test_down_ends_both_and_twice_is_fine(home: Home) -> None:
    home.up()
    status = home.status()
    assert home.json("down")["data"] == {"changed": True}
    assert not runs(status["pid"])
    assert home.json("down")["data"] == {"changed": False}


def test_two_daemons_never_share_a_state_folder(served: Home) -> None:
    ran = served.run("run", "--profile", "demo")
    assert ran.code == 1
    assert "already runs" in ran.err


def test_logs_show_what_the_server_printed(served: Home) -> None:
    assert "listening" in served.run("logs").out
    assert len(served.json("logs", "-n", "3")["data"]["lines"]) == 3


def test_nothing_of_the_users_environment_reaches_the_server(home: Home) -> None:
    home.environment |= {"LLAMA_API_KEY": "secret", "LLAMA_ARG_CTX_SIZE": "512"}
    endpoint = home.up()
    assert httpx.get(f"{endpoint}/models").status_code == 200
    names = psutil.Process(home.status()["pid"]).environ()
    assert not [name for name in names if name in ("LLAMA_API_KEY", "LLAMA_ARG_CTX_SIZE")]


def test_an_api_key_file_is_asked_for_and_kept_out_of_the_command_line(home: Home) -> None:
    keys = home.path / "keys"
    keys.write_text("# one a line\nsesame\n")
    endpoint = home.run(
        "up", "--profile", "demo", "--port", str(home.port), QWENCTL_SERVER__API_KEY_FILE=str(keys)
    ).out.strip()
    assert httpx.get(f"{endpoint}/models", headers={"Authorization": "Bearer sesame"}).status_code == 200
    assert httpx.post(f"{endpoint}/chat/completions", json={"messages": QUESTION}).status_code == 401
    assert "sesame" not in " ".join(psutil.Process(home.status()["pid"]).cmdline())


def test_the_status_file_and_the_socket_are_private(served: Home) -> None:
    assert (served.state / "control.sock").stat().st_mode & 0o777 == 0o600
    assert (served.state / "status.json").stat().st_mode & 0o077 == 0
    assert served.state.stat().st_mode & 0o777 == 0o700


def test_status_has_the_documented_fields(home: Home) -> None:
    assert home.json("status")["error"]["code"] == "not_running"
    home.up()
    status = home.json("status")["data"]
    assert set(status) >= set(
        """
        phase ready endpoint pid daemon_pid since next_try_at plan restarts last_ending rolled_back config
        download memory held in_flight version
        """.split()
    )
    assert status["phase"] == "ready"
    assert set(status["config"]) == {"path", "valid", "error"}


def test_the_control_socket_works_with_plain_http(served: Home) -> None:
    transport = httpx.HTTPTransport(uds=str(served.state / "control.sock"))
    with httpx.Client(transport=transport, base_url="http://x") as client:
        assert client.get("/v1/status").json()["ready"] is True
        assert client.get("/v1/nonsense").status_code == 404
        assert client.post("/v1/apply", content=b"{").json()["error"]["code"] == "usage"
        assert json.loads(client.put("/v1/status").text)["error"]["message"].startswith("cannot ")


def test_a_taken_port_is_found_before_anything_starts(served: Home) -> None:
    other = Home(served.path / "other", "qwenctl_test_root", served.path)
    other.path.mkdir()
    ran = other.run("up", "--profile", "demo", "--port", str(served.port))
    assert ran.code == 1
    said = ran.err.splitlines()[0]
    assert said.startswith(f"cannot listen on 127.0.0.1:{served.port}: address already in use, by pid ")
    assert "--port" in ran.err
    assert other.status() == {}
    assert other.run("up", "--profile", "demo", "--port", str(free_port())).code == 0
    other.close()
