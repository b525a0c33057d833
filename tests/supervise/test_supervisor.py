"""The shell on real processes. Limits are short, so that a wedge shows in a moment."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import httpx
import psutil
import pytest

from qwenctl.demo.model import make_model
from qwenctl.engine.address import Address
from qwenctl.launch.spec import LaunchSpec
from qwenctl.model.toml import load_profile
from qwenctl.paths import data_root
from qwenctl.supervise import states as st
from qwenctl.supervise.exits import Ending
from qwenctl.supervise.policy import Policy
from qwenctl.supervise.wedge import Traffic, WedgeLimits
from tests.fakes.bench import BUSY, Bench, Switched, fake, supervising


@pytest.fixture(scope="session")
def real(server_binary: Path, root: Path) -> LaunchSpec:
    model = root / "demo.gguf"
    make_model(model, load_profile("demo", data_root() / "profiles", root).architecture)
    socket = str(root / "s.sock")
    argv = (str(server_binary), "-m", str(model), "--host", socket, "-np", "1", "-c", "32768", "-lv", "4")
    return LaunchSpec(argv, Address(socket, None), ready_timeout_s=20, stop_timeout_s=5)


def test_a_dead_socket_file_is_no_obstacle(real: LaunchSpec) -> None:
    async def go() -> None:
        bench = Bench()
        async with supervising(real, bench):
            await bench.until("Ready")
            assert bench.pid is not None
            os.kill(bench.pid, signal.SIGKILL)
            await bench.until_ended("killed")
            await bench.until("Ready")

    asyncio.run(go())


def test_a_stopped_process_is_found_out_and_replaced(real: LaunchSpec) -> None:
    async def go() -> None:
        bench = Bench()
        async with supervising(real, bench):
            await bench.until("Ready")
            assert bench.pid is not None
            os.kill(bench.pid, signal.SIGSTOP)
            await bench.until_ended("wedged")
            await bench.until("Ready")

    asyncio.run(go())


def test_a_long_prefill_of_the_real_server_is_left_alone(real: LaunchSpec) -> None:
    """Thousands of tokens take longer than ``wedge_after_s``. A busy machine makes a probe slow, too."""

    async def go() -> None:
        bench = Bench(traffic=BUSY)
        limits = WedgeLimits(wedge_after_s=0.5, sample_s=0.05, probe_timeout_s=5, first_batch_s=30)
        async with supervising(real, bench, limits):
            await bench.until("Ready")
            transport = httpx.AsyncHTTPTransport(uds=real.address.socket)
            async with httpx.AsyncClient(transport=transport, base_url="http://x", timeout=60) as client:
                answer = await client.post("/completion", json={"prompt": "word " * 1000, "n_predict": 4})
            assert answer.status_code == 200
            bench.traffic = Traffic(0, 0)
            assert bench.last is None

    asyncio.run(go())


@pytest.mark.parametrize("traffic", [None, BUSY])
def test_a_server_that_answers_only_health_is_replaced(tmp_path: Path, traffic: Traffic | None) -> None:
    async def go() -> None:
        bench, server = Bench(traffic=traffic), Switched(tmp_path)
        async with supervising(server.spec, bench):
            await bench.until("Ready")
            server.behave('{"hang": "but_health"}')
            await bench.until_ended("wedged")
            server.behave("{}")
            await bench.until("Ready")

    asyncio.run(go())


def test_an_idle_server_is_left_alone_even_if_it_hangs(tmp_path: Path) -> None:
    """With a gate nothing is asked of an idle server, so nothing is concluded."""

    async def go() -> None:
        bench, server = Bench(traffic=Traffic(0, 0)), Switched(tmp_path)
        async with supervising(server.spec, bench):
            await bench.until("Ready")
            server.behave('{"hang": "all"}')
            with pytest.raises(TimeoutError):
                await bench.until_ended("wedged", within=1.5)

    asyncio.run(go())


@pytest.mark.parametrize(("first_batch_s", "wedged"), [(1.0, True), (3600.0, False)])
def test_a_server_whose_thread_spins_is_ended_when_its_time_is_over(
    tmp_path: Path, first_batch_s: float, *, wedged: bool
) -> None:
    limits = WedgeLimits(wedge_after_s=0.3, sample_s=0.1, probe_timeout_s=0.2, first_batch_s=first_batch_s)

    async def go() -> None:
        bench, server = Bench(traffic=BUSY), Switched(tmp_path)
        spec = server.spec
        async with supervising(spec, bench, limits):
            await bench.until("Ready")
            server.behave('{"spin": 3600}')
            with contextlib.suppress(httpx.HTTPError):
                async with httpx.AsyncClient(timeout=0.2) as client:
                    await client.post(f"{spec.address.url}/completion", json={})
            if wedged:
                await bench.until_ended("wedged")
            else:
                with pytest.raises(TimeoutError):
                    await bench.until_ended("wedged", within=2)

    asyncio.run(go())


def test_a_server_that_does_not_hear_sigterm_is_killed() -> None:
    async def go() -> None:
        bench = Bench()
        async with supervising(fake('{"ignore_term": true}'), bench) as supervisor:
            await bench.until("Ready")
            first = bench.pid
            supervisor.post(st.Restart())
            await bench.until("Stopping")
            await bench.until("Ready")
            assert bench.pid != first

    asyncio.run(go())


def test_a_silent_load_is_waited_for() -> None:
    """Longer than the limits of the wedge rule, which is for servers that were ready."""

    async def go() -> None:
        bench = Bench()
        async with supervising(fake('{"ready_after_s": 2}'), bench):
            await bench.until("Ready")
            assert bench.last is None

    asyncio.run(go())


def test_a_server_that_never_gets_ready_is_tried_again() -> None:
    async def go() -> None:
        bench = Bench()
        async with supervising(fake('{"hang": "all"}', ready_timeout_s=0.5), bench):
            await bench.until_ended("not_ready")
            await bench.until("Starting")

    asyncio.run(go())


def test_a_server_that_hangs_when_memory_runs_out_gets_a_smaller_plan() -> None:
    async def go() -> None:
        bench = Bench()
        said = "ggml_gallocr_reserve_n_impl: failed to allocate CUDA0 buffer of size 275800128"
        hangs = LaunchSpec(
            ("/bin/sh", "-c", f"echo '{said}'; exec sleep 60"),
            Address("127.0.0.1", 1),
            ready_timeout_s=0.5,
            stop_timeout_s=5,
        )
        async with supervising(hangs, bench):
            await bench.until_ended("device_out_of_memory")
            assert bench.last is not None
            assert bench.last.summary.startswith("generated no token within 0.5 s; device memory ran out")
            await bench.until("Backoff")

    asyncio.run(go())


def test_a_permanent_fault_parks_and_the_supervisor_lives_on() -> None:
    async def go() -> None:
        bench = Bench()
        say = '{"exit": {"code": 1, "say": "error: invalid argument: --x"}}'
        async with supervising(fake(say), bench) as supervisor:
            await bench.until("Failed")
            supervisor.post(st.Restart())
            await bench.until("Failed")

    asyncio.run(go())


def test_a_binary_that_is_not_there_parks() -> None:
    async def go() -> None:
        bench = Bench()
        async with supervising(LaunchSpec(("/nonexistent",), Address("127.0.0.1", 1)), bench):
            await bench.until("Failed")
            assert bench.last is not None
            assert bench.last.summary == "cannot start /nonexistent: no such file or directory"

    asyncio.run(go())


def test_a_server_starts_once_file_descriptors_are_free_again() -> None:
    async def go() -> None:
        bench = Bench(refuse=[OSError(24, "Too many open files")])
        async with supervising(fake(), bench):
            await bench.until("Backoff")
            await bench.until("Ready")

    asyncio.run(go())


def test_memory_that_others_hold_is_waited_for() -> None:
    async def go() -> None:
        busy = Ending("memory_busy", "others hold it")
        bench = Bench(refuse=[busy, busy])
        policy = Policy(memory_poll_s=0.05)
        async with supervising(fake(), bench, policy=policy):
            await bench.until("Backoff")
            await bench.until("Ready")
            assert bench.last == busy

    asyncio.run(go())


def test_the_server_is_gone_when_a_closed_supervisor_returns(real: LaunchSpec) -> None:
    async def go() -> int | None:
        bench = Bench()
        async with supervising(real, bench):
            await bench.until("Ready")
            return bench.pid

    pid = asyncio.run(go())
    assert pid is not None
    assert not psutil.pid_exists(pid)


def test_a_server_that_loads_and_cannot_compute_is_ended_long_before_its_time_is_over() -> None:
    """Source: ggml-org/llama.cpp 27309: memory runs out in the first computation, and it takes requests."""

    async def go() -> None:
        bench = Bench()
        behaviour = '{"sick": "decode() failed: std::bad_alloc"}'
        async with supervising(fake(behaviour, ready_timeout_s=600), bench):
            await bench.until_ended("host_out_of_memory")

    asyncio.run(go())
