"""Metal's errors on a Mac: a server whose device is gone is replaced, one without memory gets a smaller plan.

llama.cpp b11434 keeps the first error of a command buffer for good, and answers 500 from then on.
"""

import json
from typing import Any

import httpx

from tests.darwin.mac import Mac
from tests.fakes.home import until
from tests.fakes.scripted_server import behave

SOON = 30.0
FAULT = "Compute error."
TAKEN = """ggml_metal_synchronize: error: command buffer 1 failed with status 5
error: Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)
ggml_metal_graph_compute: backend is in error state from a previous command buffer failure - recreate"""
"""Source: ggml-org/llama.cpp 22214: M2 Pro, Qwen3.6, b8800."""
FULL = """ggml_metal_synchronize: error: command buffer 1 failed with status 5
error: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)
ggml_metal_graph_compute: backend is in error state from a previous command buffer failure - recreate"""
"""Source: ggml-org/llama.cpp 27309: it listens, /health is 200, and each token is 500."""
MOST_ERRORS = 0
"""Clients that may see the error of a sick server whose next one is well."""


def ask(mac: Mac) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": "hello"}]}
    return httpx.post(f"http://127.0.0.1:{mac.port}/v1/chat/completions", json=body, timeout=SOON)


def ends(mac: Mac) -> list[dict[str, Any]]:
    """How servers have ended so far."""
    told = map(json.loads, (mac.state / "events.jsonl").read_text().splitlines())
    return [one for one in told if one["event"] == "child_ended"]


def test_a_failed_command_buffer_costs_no_client_its_answer_and_full_memory_is_planned_smaller(
    mac: Mac,
) -> None:
    binary = mac.scripted()
    mac.up("--ctx", "65536")
    first = mac.status()
    assert ask(mac).status_code == 200
    behave(binary, sick=FAULT, sick_says=TAKEN, sick_pid=first["pid"])
    answers = [ask(mac) for _ in range(6)]
    assert sum(answer.status_code != 200 for answer in answers) <= MOST_ERRORS
    until(lambda: mac.status()["ready"], SOON)
    assert [one["cause"] for one in ends(mac)] == ["gpu_lost"]
    assert "ImpactingInteractivity" in ends(mac)[0]["summary"]

    behave(binary, sick=FAULT, sick_says=FULL, sick_above=40_000)
    assert mac.run("restart").code == 0
    now = mac.status()
    assert now["ready"]
    assert now["plan"]["context_tokens"] < 40_000
    assert "65,536" in now["degraded"]
    last = ends(mac)[-1]
    assert (last["cause"], last["permanent"]) == ("device_out_of_memory", False)
    assert "kIOGPUCommandBufferCallbackErrorOutOfMemory" in last["summary"]
    assert FAULT in last["summary"]
