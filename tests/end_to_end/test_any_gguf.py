"""A file of any model, by its path: planned as what it is, served, and asked; or refused in one line."""

import os
from collections.abc import Callable
from pathlib import Path

import gguf
import httpx
import numpy as np
import pytest

from tests.fakes.home import Home
from tests.fakes.real_models import GEMMA, SMOLLM2, gemma3, smollm2

QUESTION = "What is the capital of France? Answer in one sentence."
NAME = SMOLLM2.removesuffix(".gguf")


@pytest.fixture
def small(bare_home: Home) -> Path:
    """SmolLM2 in the home, under its own name."""
    path = bare_home.path / SMOLLM2
    path.symlink_to(smollm2())
    return path


def write(path: Path, architecture: str, *, kind: str | None = None, tensors: bool = True) -> Path:
    """Write a tiny GGUF of some kind."""
    writer = gguf.GGUFWriter(path, architecture)
    if kind is not None:
        writer.add_type(kind)
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    if tensors:
        writer.add_tensor("token_embd.weight", np.zeros((32, 64), dtype=np.float32))
        writer.add_tensor("blk.0.attn_q.weight", np.zeros((64, 64), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def cut(path: Path) -> Path:
    whole = write(path, "llama").read_bytes()
    path.write_bytes(whole[:-100])
    return path


def page(path: Path) -> Path:
    path.write_text("<!doctype html>")
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def second_part(path: Path) -> Path:
    return write(path.with_name("x-00002-of-00002.gguf"), "llama")


def lonely_part(path: Path) -> Path:
    return write(path.with_name("x-00001-of-00002.gguf"), "llama")


@pytest.mark.parametrize(
    ("make", "message", "hint"),
    [
        (lambda path: path, "cannot read {}: no such file", "the name after up"),
        (folder, "cannot read {}: is a directory", "name a model"),
        (pipe, "cannot use {}: no valid GGUF header: it is no regular file", "name a model"),
        (page, "cannot use {}: no valid GGUF header: it does not begin with GGUF", "name a model"),
        (cut, "cannot use {}: tensor 'blk.0.attn_q.weight' ends at byte", "download it again"),
        (lambda path: write(path, "clip"), "cannot use {}: it is a projector", "name the model file beside"),
        (lambda path: write(path, "llama", kind="adapter"), "cannot use {}: it is an adapter", "base model"),
        (lambda path: write(path, "llama", tensors=False), "cannot use {}: it is a vocabulary", "model file"),
        (lambda path: write(path, "bert"), "cannot use {}: it is an embedding model", "generates text"),
        (second_part, "cannot use {}: it is a later part of x-00001-of-00002.gguf", "name the first part"),
        (lonely_part, "cannot read {}: no such file", None),
    ],
    ids=["missing", "folder", "pipe", "page", "cut", "clip", "lora", "vocab", "bert", "later", "lonely"],
)
def test_what_cannot_be_served_is_refused_by_plan_in_one_line(
    bare_home: Home, make: Callable[[Path], Path], message: str, hint: str | None
) -> None:
    path = make(bare_home.path / "x.gguf")
    ran = bare_home.run("plan", str(path))
    lines = ran.err.splitlines()
    shown = path if make is not lonely_part else path.with_name("x-00002-of-00002.gguf")
    assert (ran.code, ran.out) == (6, ""), ran
    assert lines[0].startswith(message.format(shown))
    assert len(lines) <= 2
    assert hint is None or hint in lines[1]


def test_an_architecture_that_the_engine_does_not_know_is_refused_by_plan(home: Home) -> None:
    path = write(home.path / "x.gguf", "zamba9")
    ran = home.run("plan", str(path))
    assert ran.code == 5, ran
    assert "does not know the architecture 'zamba9'" in ran.err
    assert ran.err.endswith("hint: install a newer llama.cpp\n")


def test_a_file_is_planned_as_what_it_is_whatever_the_settings_say_of_profiles(
    bare_home: Home, small: Path
) -> None:
    config = bare_home.path / ".config/qwenctl/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('profile = "qwen3.6-27b"\n[model]\nquant = "Q8_0"\nrevision = "main"\n')
    told = bare_home.json("plan", SMOLLM2)["data"]
    assert (told["profile"], told["quant"], told["repo"]) == (NAME, "Q4_1", None)
    assert told["path"] == str(small)
    assert [(file["name"], file["bytes"]) for file in told["files"]] == [(SMOLLM2, small.stat().st_size)]
    assert told["context_tokens"] == 8192
    assert told["argv"][told["argv"].index("-m") + 1] == str(small)
    assert "--chat-template-kwargs" not in told["argv"], "its template reads no such thing"
    shown = bare_home.run("plan", f"./{SMOLLM2}").out
    assert f"file    {small}" in shown
    assert "to download" not in shown
    wrong = bare_home.run("plan", SMOLLM2, "--quant", "Q8_0")
    assert (wrong.code, wrong.err.splitlines()[0]) == (2, f"cannot use quant 'Q8_0': {small} is Q4_1")
    beside = bare_home.run("plan", SMOLLM2, "--profile", "qwen3.6-27b")
    assert "the file is not Qwen3.6 27B: its architecture differs" in beside.out


def test_a_relative_path_in_the_config_file_works_from_any_folder(bare_home: Home, small: Path) -> None:
    config = bare_home.path / "etc/config.toml"
    config.parent.mkdir()
    config.write_text(f'[model]\npath = "../{small.name}"\n')
    (bare_home.path / "elsewhere").mkdir()
    ran = bare_home.shell(f"cd elsewhere; exec {{python}} -m qwenctl --config {config} argv --shell")
    assert f"-m {bare_home.path}/etc/../{small.name} " in ran.out


def test_a_file_by_its_path_is_served_as_planned_and_answers(home: Home) -> None:
    path = home.path / "models" / SMOLLM2
    path.parent.mkdir()
    path.symlink_to(smollm2())
    ran = home.run("up", f"models/{SMOLLM2}", "--port", str(home.port))
    assert ran.code == 0, ran
    assert "Q4_1" in ran.err
    asked = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 32}
    answer = httpx.post(f"{ran.out.strip()}/chat/completions", json=asked, timeout=60).json()
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["model"] == NAME
    status = home.status()
    assert (status["plan"]["profile"], status["plan"]["path"]) == (NAME, str(path))
    assert abs(status["memory"]["error_percent"]) < 1
    assert status["troubles"] == []
    assert home.json("settings")["data"]["model.path"] == {"value": str(path), "origin": "up"}
    other = home.run("check", "demo", "--mechanics")
    assert (other.code, other.err.splitlines()[0]) == (
        2,
        f"cannot use model demo: the daemon serves {NAME} Q4_1",
    )
    assert home.run("up", "demo").code == 0, "a profile takes the file back"
    assert home.status()["plan"]["profile"] == "demo"


def test_a_relative_path_in_the_environment_reaches_the_daemon(home: Home) -> None:
    (home.path / SMOLLM2).symlink_to(smollm2())
    ran = home.run("up", "--port", str(home.port), QWENCTL_MODEL__PATH=SMOLLM2, QWENCTL_CONTEXT__TOKENS="512")
    assert ran.code == 0, ran
    assert home.status()["plan"]["path"] == str(home.path / SMOLLM2)


def test_a_base_model_with_sliding_windows_is_served_within_a_hundredth_of_its_plan(home: Home) -> None:
    gemma3(home.path)
    planned = home.json("plan", GEMMA)["data"]
    assert planned["warnings"][0] == "a base model: it continues text, it has no chat template"
    ran = home.run("up", GEMMA, "--port", str(home.port))
    assert ran.code == 0, ran
    asked = {"prompt": "The capital of France is", "temperature": 0, "max_tokens": 8}
    answer = httpx.post(f"{ran.out.strip()}/completions", json=asked, timeout=60).json()
    assert "France" in answer["choices"][0]["text"], "so small a base model repeats what it read"
    assert abs(home.status()["memory"]["error_percent"]) < 1


def test_a_file_that_was_replaced_is_planned_anew(home: Home) -> None:
    path = write(home.path / "x.gguf", "llama")
    first = home.json("plan", "x.gguf")["data"]["files"]
    path.unlink()
    path.symlink_to(smollm2())
    assert home.json("plan", "x.gguf")["data"]["files"] != first
