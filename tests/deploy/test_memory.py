"""Memory that ran out, memory that others hold: what is planned next, and what is remembered."""

from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.control.state_dir import forget_refused
from qwenctl.deploy.free_memory import missing
from qwenctl.deploy.oom_record import key, model_key, refusal, remember, remembered
from qwenctl.hardware.facts import Hardware
from qwenctl.hardware.holders import RAM, Free
from qwenctl.hardware.saved import read_machine
from qwenctl.model.from_gguf import profile_from_gguf
from qwenctl.model.profile import File, Profile
from qwenctl.model.toml import load_profile
from qwenctl.paths import data_root
from qwenctl.plan.outcome import Plan
from qwenctl.plan.planner import plan
from qwenctl.settings.types import Settings
from tests.fakes.headers import header
from tests.fakes.home import Home, until
from tests.fakes.real_models import smollm2
from tests.fakes.scripted_server import FAKE, behave, fake_server

MACHINES = Path(__file__).parents[1] / "machines"
GIB = 1024**3


def machine(name: str) -> tuple[Hardware, Plan]:
    hardware = read_machine(MACHINES / f"{name}.json")
    profile = load_profile("qwen3.6-27b", data_root() / "profiles", data_root() / "profiles")
    chosen = plan(hardware, profile, Settings())
    assert isinstance(chosen, Plan)
    return hardware, chosen


def test_enough_of_everything_is_no_shortage() -> None:
    hardware, chosen = machine("rtx4090-24gb")
    assert missing(chosen, hardware, (Free(RAM, 64 * GIB), Free("GPU 0 (x)", 24 * GIB))) is None


def test_a_held_gpu_is_named_with_what_is_needed() -> None:
    hardware, chosen = machine("rtx4090-24gb")
    short = missing(chosen, hardware, (Free(RAM, 64 * GIB), Free("GPU 0 (x)", 3 * GIB)))
    assert short == ("the GPU", chosen.memory.devices[0].need_bytes, 3 * GIB)


def test_unified_memory_is_one_memory() -> None:
    hardware, chosen = machine("m3-max-36gb")
    assert missing(chosen, hardware, (Free(RAM, 30 * GIB),)) is None
    short = missing(chosen, hardware, (Free(RAM, 10 * GIB),))
    assert short is not None
    assert short[0] == RAM


def test_caches_that_fill_later_are_not_needed_yet() -> None:
    hardware, chosen = machine("cpu-24gb")
    memory = chosen.memory
    now = memory.host_bytes - memory.cache_bytes - memory.checkpoints_bytes
    assert memory.cache_bytes + memory.checkpoints_bytes > 0
    assert missing(chosen, hardware, (Free(RAM, now),)) is None
    assert missing(chosen, hardware, (Free(RAM, now - 1),)) is not None


def test_what_is_unknown_is_not_short() -> None:
    hardware, chosen = machine("rtx4090-24gb")
    assert missing(chosen, hardware, (Free(RAM, None), Free("GPU 0 (x)", None))) is None
    assert missing(chosen, hardware, ()) is None


def test_refusals_are_kept_by_machine_profile_and_binary(tmp_path: Path) -> None:
    hardware, chosen = machine("cpu-24gb")
    here = key(hardware, "qwen3.6-27b", None)
    refused = refusal(chosen, "host_out_of_memory")
    remember(tmp_path, here, refused)
    remember(tmp_path, here, replace(refused, bytes=refused.bytes - 1))
    assert remembered(tmp_path, here) == {refused, replace(refused, bytes=refused.bytes - 1)}
    assert remembered(tmp_path, key(hardware, "other", None)) == frozenset()
    assert remembered(tmp_path, key(replace(hardware, ram_bytes=1), "qwen3.6-27b", None)) == frozenset()
    forget_refused(tmp_path)
    forget_refused(tmp_path)
    assert remembered(tmp_path, here) == frozenset()


@pytest.mark.parametrize("text", ["", "[]", '{"k": 3}', '{"k": [{"nonsense": 1}]}', "\x00"])
def test_a_damaged_memory_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "refused.json").write_text(text)
    assert remembered(tmp_path, "k") == frozenset()


def up(home: Home, *arguments: str, **environment: str) -> int:
    home.environment |= environment
    return home.run("up", "--profile", "demo", "--port", str(home.port), *arguments).code


def test_out_of_memory_takes_something_smaller_and_remembers_it(home: Home) -> None:
    binary = fake_server(home, oom_above=40_000)
    assert up(home, "--ctx", "65536") == 0
    status = home.status()
    assert status["plan"]["context_tokens"] < 40_000
    assert "65,536" in status["degraded"]
    assert status["restarts"]["by_cause"]["host_out_of_memory"] >= 1
    told = home.json("events", "-n", "100")["data"]["events"]
    assert "degraded" in [event["event"] for event in told]
    planned = home.json("plan", "--profile", "demo")["data"]
    assert planned["context_tokens"] == status["plan"]["context_tokens"]
    before = [one for one in planned["considered"] if one["context_tokens"] == 65536]
    assert "out of memory here before" in before[0]["reason"]
    assert f"-c {planned['context_tokens']}" in home.run("argv", "--shell", "--profile", "demo").out
    home.run("down")
    assert up(home) == 0
    assert home.status()["restarts"]["total"] == 0
    behave(binary)
    assert home.run("up", "--forget").code == 0
    until(lambda: home.status()["plan"]["context_tokens"] == 65536 and home.status()["ready"], 20)
    assert home.status()["degraded"] is None


def test_a_refusal_holds_for_one_file_and_not_for_another_of_its_name() -> None:
    one = made("x.gguf", 1000)
    assert model_key(one, "/a/x.gguf") != model_key(one, "/b/x.gguf")
    assert model_key(one, "/a/x.gguf") != model_key(made("x.gguf", 2000), "/a/x.gguf")
    profile = load_profile("demo", data_root() / "profiles", data_root() / "profiles")
    assert model_key(profile, None) == "demo"


def made(name: str, size: int) -> Profile:
    return profile_from_gguf((header(),), (File(name=name, bytes=size),), ())


def test_a_file_that_runs_out_of_memory_is_served_smaller_and_a_replaced_one_anew(home: Home) -> None:
    fake_server(home, oom_above=4_000)
    path = home.path / "x.gguf"
    path.symlink_to(smollm2())
    home.environment["QWENCTL_CONTEXT__MIN_TOKENS"] = "512"
    ran = home.run("up", "x.gguf", "--port", str(home.port))
    assert ran.code == 0, ran
    status = home.status()
    assert status["plan"]["profile"] == "x"
    assert status["plan"]["context_tokens"] < 4_000
    assert "8,192" in status["degraded"]
    assert home.json("plan", "x.gguf")["data"]["context_tokens"] == status["plan"]["context_tokens"]
    path.unlink()
    path.write_bytes(smollm2().read_bytes())
    assert home.json("up", "x.gguf")["data"]["changed"] is True
    assert home.status()["pid"] != status["pid"]
    settled = home.status()["pid"]
    assert home.json("up", "x.gguf")["data"]["changed"] is False
    assert home.status()["pid"] == settled


def test_out_of_memory_can_be_told_to_stop(home: Home) -> None:
    fake_server(home, oom_above=40_000)
    assert up(home, "--ctx", "65536", QWENCTL_SUPERVISE__ON_OOM="stop") == 7
    assert home.status()["phase"] == "failed"
    assert home.status()["last_ending"]["cause"] == "host_out_of_memory"


def test_a_parked_server_comes_back_when_its_binary_is_replaced(home: Home) -> None:
    binary = fake_server(
        home, exit={"code": 127, "say": "x: error while loading shared libraries: liby.so: no"}
    )
    assert up(home) == 7
    assert home.status()["last_ending"]["cause"] == "library_missing"
    behave(binary)
    binary.with_name("new").write_bytes(FAKE.read_bytes())
    binary.with_name("new").chmod(0o755)
    binary.with_name("new").replace(binary)
    until(lambda: home.status()["ready"], 20)


def test_up_asks_a_parked_server_to_try_again(home: Home) -> None:
    binary = fake_server(home, exit={"code": 1, "say": "error: invalid argument: --x"})
    assert up(home) == 7
    behave(binary)
    assert home.run("up").code == 0
    assert home.status()["ready"]
