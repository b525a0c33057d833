"""From a hub on loopback to a served model, through the installed command line."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from qwenctl.demo.model import make_model
from qwenctl.model.toml import read_profile
from tests.fakes.home import Home
from tests.fakes.hub import COMMIT, REPO, FakeHub, Fault
from tests.fakes.shaped import types_of, write_shaped

ROOT = Path(__file__).parents[2]
FILE = "tiny-F16.gguf"


@pytest.fixture
def hub(home: Home, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub with the demo model's bytes, and a person's own profile that names them."""
    shipped = (ROOT / "profiles/demo.toml").read_text(encoding="utf-8")
    own = home.path / ".config/qwenctl/profiles/tiny.toml"
    own.parent.mkdir(parents=True)
    table = f'\n[hub]\nrepo = "{REPO}"\nrevision = "main"\nsource = "a test"\n\n[architecture]'
    text = shipped.replace('name = "demo"', 'name = "tiny"').replace("generated = true\n", "")
    own.write_text(text.replace("[architecture]", table, 1).replace("demo.gguf", FILE), encoding="utf-8")
    model = tmp_path / FILE
    make_model(model, read_profile(ROOT / "profiles/demo.toml").architecture)
    with FakeHub({FILE: model}) as served:
        home.environment["HF_ENDPOINT"] = served.endpoint
        yield served


def test_up_fetches_the_model_and_serves_it(home: Home, hub: FakeHub) -> None:
    hub.latency_s = 0.3  # long enough for a download to be seen
    ran = home.run("up", "--profile", "tiny", "--port", str(home.port))
    assert ran.code == 0, ran.err
    assert f"downloading {FILE}" in ran.err
    assert home.json("argv")["data"]["argv"][2].endswith(f"snapshots/{COMMIT}/{FILE}")
    asked = len(hub.log)
    assert home.json("fetch")["data"]["changed"] is False
    assert home.run("restart").code == 0
    assert len(hub.log) == asked, "a verified artifact is used without a request"


def test_what_a_thread_reports_reaches_the_daemon_on_its_own_thread(home: Home, hub: FakeHub) -> None:
    """asyncio's debug mode raises wherever another thread touches the loop: while a file is fetched, verified
    in a thread, verified again, and at the end.
    """
    home.environment["PYTHONASYNCIODEBUG"] = "1"
    hub.latency_s = 0.1
    for _ in range(2):
        ran = home.run("up", "--profile", "tiny", "--port", str(home.port))
        assert ran.code == 0, ran.err
        url = f"http://127.0.0.1:{home.port}/v1/completions"
        assert httpx.post(url, json={"prompt": "hi", "max_tokens": 2}, timeout=60).status_code == 200
        assert home.run("down").code == 0
        (model,) = (home.path / ".cache/huggingface/hub").glob(f"**/snapshots/*/{FILE}")
        os.utime(model.resolve(), (1, 1))  # what was verified before counts no more
    log = (home.state / "daemon.log").read_text(encoding="utf-8")
    assert "Non-thread-safe" not in log
    assert "Traceback" not in log


def test_a_profile_of_ones_own_is_listed_with_its_origin(home: Home, hub: FakeHub) -> None:
    del hub
    found = {one["name"]: one["origin"] for one in home.json("profiles")["data"]}
    assert found["tiny"] == "own"
    assert found["demo"] == "shipped"


def test_fetch_brings_it_once_and_says_what_it_would_do(home: Home, hub: FakeHub) -> None:
    wanted = home.json("--profile", "tiny", "fetch", "--dry-run")["data"]
    assert wanted["commit"] == COMMIT
    assert wanted["needed_bytes"] == read_profile(ROOT / "profiles/demo.toml").quants[0].bytes
    first = home.json("--profile", "tiny", "fetch")
    assert first["data"]["changed"] is True
    assert first["data"]["files"][0]["sha256"] == hub.sha256(FILE)
    assert home.json("--profile", "tiny", "fetch")["data"]["changed"] is False
    assert home.run("--profile", "tiny", "fetch", "--offline").code == 0


def test_progress_is_json_lines_on_stderr_with_json(home: Home, hub: FakeHub) -> None:
    del hub
    ran = home.run("--json", "--profile", "tiny", "fetch")
    assert json.loads(ran.out)["ok"] is True
    steps = [json.loads(line)["progress"] for line in ran.err.splitlines()]
    assert steps
    assert set(steps[0]) == {"file", "bytes", "total_bytes", "bytes_per_s", "phase"}


@pytest.mark.parametrize("command", [("up",), ("fetch",)])
def test_a_hub_that_refuses_is_one_line_and_exit_6(
    home: Home, hub: FakeHub, command: tuple[str, ...]
) -> None:
    hub.faults = lambda _: Fault(status=404)
    ran = home.run("--profile", "tiny", *command)
    assert ran.code == 6, ran
    assert ran.err.splitlines()[-2 if "hint:" in ran.err else -1].startswith("cannot ")
    assert "Traceback" not in ran.err


def test_what_fetches_left_is_removed_only_after_a_yes(home: Home, hub: FakeHub) -> None:
    del hub
    assert home.run("--profile", "tiny", "fetch").code == 0
    refused = home.run("--profile", "demo", "fetch", "--prune")
    assert refused.code == 2
    assert "--yes" in refused.err
    removed = home.json("--profile", "demo", "fetch", "--prune", "--yes")["data"]
    assert [one["kind"] for one in removed["removed"]] == ["quant"]
    assert not list((home.path / ".cache/huggingface").rglob("*.gguf"))


def test_a_truncated_model_is_refused_before_anything_starts(home: Home, hub: FakeHub) -> None:
    whole = hub.files[FILE]
    assert isinstance(whole, Path)
    cut = home.path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[:-1000])
    ran = home.run("up", "--profile", "demo", QWENCTL_MODEL__PATH=str(cut))
    assert ran.code == 6
    assert ran.err.startswith("cannot ")
    assert home.status() == {}


def test_the_engine_is_asked_before_any_download(built_home: Home, built_tools: Path, tmp_path: Path) -> None:
    """A file of the 27B's shape on the hub: only its header moves."""
    model = read_profile(ROOT / "profiles/qwen3.6-27b.toml").architecture
    write_shaped(tmp_path / "plain.gguf", model, lambda _: "BF16")
    types = types_of(built_tools / "llama-quantize", tmp_path / "plain.gguf", "Q3_K_M")
    name = "Qwen3.6-27B-Q3_K_M.gguf"
    size = write_shaped(tmp_path / name, model, lambda tensor: types[tensor])
    assert size > 12 * 10**9
    with FakeHub({name: tmp_path / name}) as hub:
        hub._hashes[name] = "0" * 64  # nobody reads the weights
        built_home.environment |= {"HF_ENDPOINT": hub.endpoint, "QWENCTL_MODEL__REPO": REPO}
        built_home.environment["QWENCTL_MODEL__REVISION"] = "main"
        machine = ROOT / "tests/machines/cpu-24gb.json"
        found = built_home.json("plan", "--verify", "--quant", "Q3_K_M", "--hardware", str(machine))
        assert found["ok"] is True, found
        assert hub.bytes_sent < 30 * 10**6
    (row,) = found["data"]["verification"]["rows"]
    assert row["device"] == "Host"
    assert abs(row["error_percent"]) < 5  # the published file is larger than the one made here
    assert found["data"]["verification"]["forgotten"]["cache_ram_bytes"] == 2048 * 2**20
