"""What README promises, on a Mac: conversations, streams, official builds, and downloads that were cut."""

import json
import sys
from pathlib import Path
from typing import Any

import httpx

from qwenctl.fetch.cache import JOURNAL
from tests.darwin.mac import REPOSITORY, Mac
from tests.darwin.slow_hub import SlowHub
from tests.fakes.engine_archive import engine_archive
from tests.fakes.home import kill, until
from tests.fakes.real_models import smollm2
from tests.fakes.release_server import ReleaseServer

SOON = 60.0
SETTINGS = """
profile = "smollm2-135m"
[gate]
warm_min_tokens = 256
warm_after_s = 1
[context]
tokens = 2048
"""
TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")[:1300]
COUNT = [{"role": "user", "content": "Count from 1 to 40."}]
"""Each token of the answer is far ahead of the next best."""
BUILDS = ("macos-arm64", "macos-x64", "ubuntu-x64", "ubuntu-vulkan-x64")


def say(mac: Mac, messages: list[dict[str, str]]) -> dict[str, int]:
    """Ask for an answer, which joins the messages; return how many tokens were read, and were kept."""
    body = {"messages": messages, "max_tokens": 8, "temperature": 0}
    response = httpx.post(f"http://127.0.0.1:{mac.port}/v1/chat/completions", json=body, timeout=120)
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    messages.append({"role": "assistant", "content": told["choices"][0]["message"]["content"]})
    usage = told["usage"]
    return {"read": usage["prompt_tokens"], "kept": usage["prompt_tokens_details"]["cached_tokens"]}


def counted(mac: Mac, cut_after: int | None = None) -> tuple[str, bool]:
    """Let it count in a stream, whose server is killed on the way. Return the text, and if it was mended."""
    body = {"messages": COUNT, "max_tokens": 28, "temperature": 0, "stream": True}
    text, pieces, mended = "", 0, False
    url = f"http://127.0.0.1:{mac.port}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, timeout=120) as answer:
        for line in answer.iter_lines():
            mended = mended or line == ": continued"
            if not line.startswith("data: {"):
                continue
            piece = json.loads(line[6:])["choices"][0]["delta"].get("content")
            text, pieces = text + (piece or ""), pieces + bool(piece)
            if pieces == cut_after:
                kill(mac.status()["pid"])
                cut_after = None
    return text, mended


def test_a_stream_survives_a_kill_and_a_conversation_a_restart(mac: Mac) -> None:
    smollm2()  # a skip, where its package is not installed
    mac.settle(SETTINGS)
    ran = mac.run("up")
    assert ran.code == 0, ran.err
    messages = [{"role": "user", "content": f"{TEXT}\n\nWhat is this about?"}]
    read = say(mac, messages)["read"]

    whole, mended = counted(mac)
    assert "5. 5" in whole
    assert not mended
    server = mac.status()["pid"]
    assert counted(mac, cut_after=5) == (whole, True)
    assert mac.status()["pid"] != server

    assert mac.run("restart").code == 0
    messages.append({"role": "user", "content": "Say it shorter."})
    assert say(mac, messages)["kept"] >= 0.99 * read > 256
    until(lambda: mac.status()["warm"]["reused_tokens"], SOON)
    warm = mac.status()["warm"]
    assert warm["misses"] == 0
    assert warm["reused_tokens"] >= 0.99 * warm["restored_tokens"] > 0


def test_an_official_build_is_chosen_and_installed(bare_mac: Mac, server_binary: Path) -> None:
    """It is packed as that of a release: the program must be made one that may run."""
    mac = bare_mac
    words = f"exec {sys.executable} -m tests.darwin.metal_server {mac.system} {server_binary}"
    archive = engine_archive("b11500", f'#!/bin/sh\nPYTHONPATH={REPOSITORY} {words} "$@"\n')
    files = {f"llama-b11500-bin-{build}.tar.gz": archive for build in BUILDS}
    with ReleaseServer({"b11500": files}) as there:
        mac.environment["QWENCTL_SERVER__RELEASES"] = there.base
        ran = mac.run("engine", "install")
        assert (ran.code, ran.out) == (0, "using b11500-metal from the next start on\n"), ran.err
        brought = [each.path for each in there.log if each.kind == "bytes"]
    assert {path.rpartition("/")[2] for path in brought} == {"llama-b11500-bin-macos-arm64.tar.gz"}
    mac.up()
    engine = mac.status()["engine"]
    assert engine["path"].startswith(f"{mac.path}/")
    assert "/b11500-metal/" in engine["path"]


def test_a_download_that_was_cut_goes_on_where_it_was(bare_mac: Mac) -> None:
    mac = bare_mac
    slow = SlowHub(mac)
    with slow.hub as hub:
        slow.known_to(mac)
        fetching = mac.begun([str(mac.python), "-m", "qwenctl", "fetch", "first"])
        until(lambda: any(each.read_bytes().count(b"\n") > 1 for each in mac.path.rglob(f"*{JOURNAL}")), SOON)
        fetching.kill()
        fetching.communicate()
        begun = len(hub.log)
        slow.goes_on.set()
        ran = mac.run("fetch", "first")
        assert ran.code == 0, ran.err
        asked = [each.range for each in hub.log[begun:] if each.kind == "bytes"]
        assert asked
        assert None not in asked
        assert 0 not in [each[0] for each in asked if each is not None]
