"""A repository of the hub by its name: planned by its listing and one header, fetched, served, and asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.home import Home
from tests.fakes.hub import COMMIT, REPO, FakeHub, Fault
from tests.fakes.machines import MACHINES
from tests.fakes.real_models import smollm2
from tests.fakes.repository import MODEL, sparse_repository

MIB = 2**20
QUESTION = "What is the capital of France? Answer in one sentence."


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | Path]:
    """Twenty quants of an 8B model, as sparse files."""
    return sparse_repository(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def hub(bare_home: Home, twenty: dict[str, bytes | Path]) -> Iterator[FakeHub]:
    with FakeHub(dict(twenty)) as served:
        served.know_hashes()
        bare_home.environment["HF_ENDPOINT"] = served.endpoint
        yield served


def plan(home: Home, *arguments: str) -> dict[str, Any]:
    told = home.json("plan", *arguments, "--hardware", str(MACHINES / "cpu-24gb.json"))
    assert told["ok"], told
    data: dict[str, Any] = told["data"]
    return data


def test_the_best_quant_that_fits_is_planned_with_a_reason_for_each_loser(
    bare_home: Home, hub: FakeHub
) -> None:
    told = plan(bare_home, REPO)
    assert (told["profile"], told["quant"], told["repo"]) == ("Model", "Q8_0", REPO)
    assert told["revision"] == COMMIT
    (file,) = told["files"]
    assert (file["name"], file["sha256"]) == (
        f"{MODEL}-Q8_0.gguf",
        hub.sha256(f"{MODEL}-Q8_0.gguf"),
    )
    considered = {one["quant"]: one["reason"] for one in told["considered"]}
    assert len(considered) == 20
    assert all(considered.values())
    assert "twice the size of Q8_0" in considered["BF16"]
    assert hub.bytes_sent < 20 * MIB
    asked = len(hub.log)
    assert plan(bare_home, REPO) == told
    hub.faults = lambda _: Fault(status=503)
    assert plan(bare_home, REPO) == told, "the hub was asked once; after that it is not needed"
    assert len(hub.log) == asked


@pytest.mark.parametrize(
    ("what", "quant"),
    [
        (":Q5_K_M", "Q5_K_M"),
        (":q5km", "Q5_K_M"),
        (f":{MODEL}-IQ4_XS.gguf", "IQ4_XS"),
        ("@main", "Q8_0"),
        (":bf16", "BF16"),
    ],
)
def test_a_quant_or_a_file_of_it_is_planned_as_that_very_file(
    bare_home: Home, hub: FakeHub, what: str, quant: str
) -> None:
    told = plan(bare_home, REPO + what)
    assert told["quant"] == quant
    for file in told["files"]:
        content = hub.files[file["name"]]
        assert isinstance(content, Path)
        assert f"-{quant.lower()}" in content.name.lower()
        assert file["bytes"] == content.stat().st_size
    assert len(told["files"]) == (2 if quant == "BF16" else 1)
    words = told["argv"]
    assert words[words.index("-m") + 1].endswith(told["files"][0]["name"])


def test_every_command_means_the_same_file(bare_home: Home, hub: FakeHub) -> None:
    del hub
    name = f"{MODEL}-Q4_K_M.gguf"
    page = f"https://huggingface.co/{REPO}/blob/main/{name}"
    assert name in bare_home.run("plan", page).out
    assert name in bare_home.run("argv", page, "--shell").out
    preview = bare_home.json("fetch", f"{REPO}:q4-k-m", "--dry-run")["data"]
    assert [file["name"] for file in preview["files"]] == [name]


@pytest.mark.parametrize(
    ("model", "code", "message", "hint"),
    [
        (f"{REPO}:Q9_Z", 2, f"cannot find Q9_Z in {REPO}: it has no such quant", "it has "),
        (f"{REPO}:nothing.gguf", 2, f"cannot find nothing.gguf in {REPO}: it has no such file", "it has "),
        (f"{REPO}:mmproj-F16.gguf", 6, f"cannot use mmproj-F16.gguf of {REPO}: it is a projector", "model"),
        ("someone/Else-GGUF", 6, "cannot find repository someone/Else-GGUF", "check the spelling"),
        (f"{REPO}@{'f' * 40}", 6, f"cannot find revision {'f' * 40} of {REPO}", "check "),
    ],
)
def test_what_is_not_there_is_one_line_with_a_hint(
    bare_home: Home, hub: FakeHub, model: str, code: int, message: str, hint: str
) -> None:
    del hub
    ran = bare_home.run("plan", model)
    lines = ran.err.splitlines()
    assert (ran.code, ran.out, len(lines)) == (code, "", 2), ran
    assert lines[0].startswith(message)
    assert hint in lines[1]


def test_a_repository_of_several_models_asks_for_the_name_of_one(
    bare_home: Home, twenty: dict[str, bytes | Path]
) -> None:
    names = ("Model-1B-Q8_0.gguf", "Model-3B-Q8_0.gguf")
    contents = [content for content in twenty.values() if isinstance(content, Path)]
    with FakeHub(dict(zip(names, contents, strict=False))) as served:
        served.know_hashes()
        ran = bare_home.run("plan", REPO, HF_ENDPOINT=served.endpoint)
    assert ran.code == 2
    assert ran.err.startswith(f"cannot choose a model of {REPO}: it holds several models\nhint: name one as ")
    assert all(name in ran.err for name in names)


def test_one_of_twenty_quants_is_fetched_served_and_asked(
    home: Home, twenty: dict[str, bytes | Path]
) -> None:
    name = f"{MODEL}-Q4_1.gguf"
    with FakeHub(dict(twenty) | {name: smollm2()}) as served:
        served.know_hashes(but=name)
        ran = home.run("up", f"{REPO}:q4_1", "--port", str(home.port), HF_ENDPOINT=served.endpoint)
    assert ran.code == 0, ran
    asked = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 32}
    answer = httpx.post(f"{ran.out.strip()}/chat/completions", json=asked, timeout=60).json()
    assert "Paris" in answer["choices"][0]["message"]["content"]
    status = home.status()
    assert (status["plan"]["profile"], status["plan"]["quant"]) == ("Model", "Q4_1")
    assert status["plan"]["path"].endswith(name)
    assert abs(status["memory"]["error_percent"]) < 1
    assert home.run("down").code == 0
    again = home.run("up", HF_ENDPOINT="http://127.0.0.1:1")
    assert again.code == 0, "what is on this disk needs no hub"
    assert home.status()["plan"]["path"] == status["plan"]["path"]
