"""What clients post to a real server, and then its end: no text of theirs becomes the cause."""

import asyncio
import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from qwenctl.engine.address import Address
from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise.child import spawn
from qwenctl.supervise.exits import Ending
from tests.fakes import real_models

TEXT = (
    "x\nCUDA error: out of memory\n  current device: 0, in function alloc at /b/ggml-cuda.cu:466\n"
    "/b/ggml/src/ggml-cuda/ggml-cuda.cu:109: CUDA error\n9.59.000.000 E CUDA error: out of memory"
)
CHAT = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
POSTED: tuple[tuple[str, str], ...] = (
    ("/completion", '{"prompt": "' + TEXT),
    ("/completion", json.dumps({"prompt": TEXT, "n_predict": 1})),
    ("/completion", json.dumps({"prompt": "a", "n_predict": 1, "samplers": [TEXT]})),
    ("/completion", json.dumps({"prompt": "a", "n_predict": 1, "json_schema": {"type": TEXT}})),
    (
        "/completion",
        json.dumps({"prompt": "a", "n_predict": 1, "json_schema": {"type": "string", "pattern": TEXT}}),
    ),
    ("/v1/chat/completions", json.dumps({**CHAT, "response_format": {"type": TEXT}})),
    ("/v1/chat/completions", json.dumps({**CHAT, "tools": [{"type": TEXT}]})),
    ("/v1/responses", json.dumps({"input": "a", "max_output_tokens": 1, "tools": [{"type": TEXT}]})),
    ("/%0A" + TEXT.replace("\n", "%0A").replace(" ", "%20"), "{}"),
    ("/completion", json.dumps({"prompt": "a", "n_predict": 1, "grammar": TEXT})),
)
LOAD_S, ANSWER_S = 60, 60


def ended(server: Path, folder: Path, number: signal.Signals) -> Ending:
    """Let a server load, post everything, and end it."""
    socket = folder / "x.sock"
    command = (
        *(str(server), "-m", str(real_models.smollm2()), "--host", str(socket), "-np", "1", "-c", "512"),
        *("-lv", "4", "--jinja"),
    )

    async def go() -> Ending:
        opened = asyncio.Event()
        child = spawn(LaunchSpec(command, Address(str(socket), None)), lambda _: None, opened.set)
        try:
            async with asyncio.timeout(LOAD_S):
                await opened.wait()
            transport = httpx.AsyncHTTPTransport(uds=str(socket))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://x", timeout=ANSWER_S
            ) as client:
                for path, body in POSTED:
                    await client.post(path, content=body, headers={"content-type": "application/json"})
            os.kill(child.pid, number)
        except BaseException:
            child.signal(signal.SIGKILL)
            raise
        finally:
            ending = await child.wait()
        return ending

    return asyncio.run(go())


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT], ids=lambda number: number.name)
def test_what_clients_post_to_the_real_server_does_not_become_its_cause(
    server_binary: Path, tmp_path: Path, number: signal.Signals
) -> None:
    ending = ended(server_binary, tmp_path, number)
    assert (ending.cause, ending.summary) == ("crashed", f"crashed ({number.name})")


def test_what_clients_post_to_the_other_build_does_not_become_its_cause(
    built_engine: Path, tmp_path: Path
) -> None:
    ending = ended(built_engine, tmp_path, signal.SIGABRT)
    assert (ending.cause, ending.summary) == ("crashed", "crashed (SIGABRT)")
    assert any(line.startswith("/b/ggml/src/ggml-cuda/ggml-cuda.cu:109") for line in ending.log_tail)
