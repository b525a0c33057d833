"""What binaries that people have say of themselves, played by scripts: help texts, answers, refusals.

``field/`` holds one file a case. ``ask-*`` is the line of a shell that plays the binary; ``*.help.txt`` and
the two of a launcher are whole help texts, which a script prints.
"""

import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from qwenctl.engine.architectures import knows
from qwenctl.engine.ask import devices_of, engine_at
from qwenctl.engine.find import EngineCandidate, find_engine
from qwenctl.engine.flags import VERBOSITY, Known, Option, fit_to, parse_help, translated
from qwenctl.engine.other_programs import architecture_unknown
from qwenctl.engine.program import Engine
from qwenctl.engine.usability import Unusable
from qwenctl.engine.used_flags import ALWAYS, SOMETIMES
from qwenctl.errors import NoServerError
from qwenctl.hardware.facts import DeviceList
from qwenctl.settings.types import Settings

FIELD, HELP = Path(__file__).parent / "field", Path(__file__).parent / "help"
ASKED = sorted(path.stem for path in FIELD.glob("ask-*.txt"))
HELPS = sorted(path.name for path in FIELD.glob("*help*.txt") if not path.name.startswith("ask-"))
FOREIGN_ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + b"\xf3\x00" + bytes(44)
"""The header of a program for RISC-V, which is none of the processors that qwenctl runs on."""
TABLE_BEFORE = "llama qwen2 gemma3 deepseek2 mamba qwen3 qwen3moe qwen3next"
"""Architectures of a build before qwen35: a part of ``LLM_ARCH_NAMES``."""


@dataclass(frozen=True, slots=True)
class FieldAnswer:
    """What qwenctl makes of a case's binary: the engine or why not, then its devices or why not."""

    engine: Engine | Unusable
    devices: DeviceList | Unusable

    @property
    def why(self) -> Unusable:
        """The refusal."""
        found = self.engine if isinstance(self.engine, Unusable) else self.devices
        assert isinstance(found, Unusable), found
        return found

    @property
    def version(self) -> str:
        assert isinstance(self.engine, Engine), self.engine
        return self.engine.version


def text_of(name: str) -> str:
    lines = (FIELD / name).read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("# "))


def expected(name: str) -> str:
    lines = (FIELD / name).read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix("# expected: ") for line in lines if line.startswith("# expected: "))


def program(folder: Path, shell: str, table: str = "") -> Path:
    """A script that plays a binary; after its end lies the table of the architectures that it knows."""
    path = folder / "llama-server"
    names = b"".join(name.encode() + b"\0" for name in table.split())
    path.write_bytes(f"#!/bin/sh\n{shell}\nexit\n".encode() + names)
    path.chmod(0o755)
    return path


def played(name: str, folder: Path) -> Path:
    """The script of an ``ask-*`` case; the help texts that it prints are those of this folder."""
    shell = text_of(f"{name}.txt").replace("tests/launch/help/b11434.txt", str(HELP / "b11434.txt"))
    for help_text in HELPS:
        shell = shell.replace(f"cat {help_text}", f"cat {FIELD / help_text}")
    path = program(folder, shell)
    if shell.startswith("(an ELF"):
        path.write_bytes(FOREIGN_ELF)
    return path


def asked(name: str, folder: Path) -> FieldAnswer:
    path = played(name, folder)
    return FieldAnswer(engine_at(path, folder / "cache"), devices_of(path))


REFUSED = {
    "ask-01-glibc-release-on-debian12": ("wrong_libc", "GLIBC_2.38", "pip install 'qwenctl[engine]'"),
    "ask-02-macos-sigkill-codesign": ("killed", "SIGKILL", "codesign"),
    "ask-03-sigill-old-cpu": ("wrong_processor", "SIGILL", "the build for this machine"),
    "ask-04-sycl-list-devices-abort": ("driver_refuses", "driver refuses it", 'gpu = "off"'),
    "ask-05-rocm-igpu-list-abort": ("wrong_gpu_build", "gfx1036", "HIP_VISIBLE_DEVICES"),
    "ask-11-ik-llama": ("not_a_server", "ik_llama.cpp", "llama.cpp's own llama-server"),
    "ask-12-b3500-old-help": ("not_a_server", "too old", "llama.cpp's own llama-server"),
    "ask-13-b3800-no-list-devices": ("too_old", "too old", "update llama.cpp"),
    "ask-14-llamafile": ("not_a_server", "a llamafile, not a llama-server", "llama.cpp's own"),
    "ask-15-exec-format": ("wrong_architecture", "another processor or system", "for this machine"),
    "ask-16-wrapper-needs-docker": ("wrapper", "docker, which does not run", "start docker"),
}
"""Cause, a part of the line, a part of the hint."""
READ = {
    "ask-06-dynamic-backends": ("8148 (244641955)", ["CUDA0"]),
    "ask-07-dynamic-backends-on-stdout": ("8148 (2446419)", ["CUDA0"]),
    "ask-08-unified-llama-version": ("b10098-0278d8362", []),
    "ask-09-fork-version": ("10096 (15d22acc8)", []),
    "ask-10-shallow-clone-version": ("1 (b45ef27)", []),
}
"""Version and devices."""


def test_every_case_is_expected_to_mean_something() -> None:
    assert set(ASKED) == set(REFUSED) | set(READ)


@pytest.mark.parametrize("name", REFUSED)
def test_a_binary_that_cannot_be_used_has_a_line_and_a_hint_of_its_own(name: str, tmp_path: Path) -> None:
    why = asked(name, tmp_path).why
    cause, said, hint = REFUSED[name]
    assert why.cause == cause
    assert said in why.summary
    assert hint in why.hint
    assert "\n" not in why.summary + why.hint


@pytest.mark.parametrize("name", READ)
def test_answers_of_forks_images_and_clones_are_read(name: str, tmp_path: Path) -> None:
    found = asked(name, tmp_path)
    version, ids = READ[name]
    assert found.version == version
    assert not isinstance(found.devices, Unusable)
    assert [device.id for device in found.devices.devices] == ids


@pytest.mark.parametrize("name", HELPS)
def test_a_help_text_is_accepted_or_refused_with_its_reason(name: str, tmp_path: Path) -> None:
    """A build that is too old lacks a flag, or its own table of architectures lacks the model's."""
    table = TABLE_BEFORE if "does not know qwen35" in expected(name) else TABLE_BEFORE + " qwen35"
    shell = f"case $1 in --version) echo 'version: 7 (a)' >&2;; --help) cat {FIELD / name};; *) echo; esac"
    path = program(tmp_path, shell, table)

    def judge(engine: Engine, _listed: DeviceList) -> Unusable | None:
        return architecture_unknown("qwen35") if knows(engine.path, "qwen35") is False else None

    places = (EngineCandidate("here", path),)
    if expected(name).startswith("accepted"):
        found = find_engine(Settings(), tmp_path / "cache", tmp_path, judge=judge, places=places)
        assert found.engine.path == path
        return
    with pytest.raises(NoServerError) as caught:
        find_engine(Settings(), tmp_path / "cache", tmp_path, judge=judge, places=places)
    assert ("ik_llama.cpp" if "ik_llama" in name else "too old") in caught.value.message
    assert caught.value.hint is not None


def known(name: str) -> Known:
    folder = FIELD if (FIELD / name).exists() else HELP
    return parse_help((folder / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [*HELPS, "lv-4-is-debug.txt", "b11434.txt"])
def test_the_level_of_the_log_is_the_one_below_the_level_that_prints_requests(name: str) -> None:
    """In the words of each build: "4: debug", "4: trace", or no levels at all."""
    level = translated(VERBOSITY, known(name))
    said = text_of(name) if (FIELD / name).exists() else (HELP / name).read_text(encoding="utf-8")
    if "- 4: trace" in said:
        assert level == Option("-lv", "4")
    elif "- 4: debug" in said:
        assert level == Option("-lv", "3")
    else:
        assert level is None
        assert fit_to((VERBOSITY,), known(name), "x") == ()


def test_a_level_that_a_person_asks_for_is_theirs() -> None:
    """Also where 4 is debug: they may want it."""
    debug = known("b8500.help.txt")
    theirs = (Option("-lv", "4"),)
    assert fit_to((), debug, "x", theirs) == theirs
    assert fit_to((VERBOSITY,), debug, "x", theirs) == (Option("-lv", "3"), *theirs)


def test_levels_in_another_order_are_never_those_that_print_requests() -> None:
    """A build whose trace is more than debug."""
    text = "-lv, --verbosity N   the threshold:\n      - 2: info\n      - 3: debug\n      - 4: trace\n"
    assert translated(VERBOSITY, parse_help(text)) == Option("-lv", "2")


def test_a_number_that_an_older_build_does_not_take_is_not_passed() -> None:
    """Before b8288 a reasoning budget was -1 or 0, and nothing else."""
    some, none = Option("--reasoning-budget", "100"), Option("--reasoning-budget", "0")
    assert translated(some, known("b8100.help.txt")) is None
    assert translated(none, known("b8100.help.txt")) == none
    assert translated(some, known("b8500.help.txt")) == some


@pytest.mark.parametrize("name", HELPS)
def test_every_build_that_has_a_flag_of_ours_has_it_under_its_oldest_name(name: str) -> None:
    flags = known(name)
    names = {option.flag for option in ALWAYS + SOMETIMES}
    short = {"-ctxcp": "--ctx-checkpoints", "-cram": "--cache-ram", "-rea": "--reasoning"}
    assert [old for new, old in short.items() if new in flags and old not in flags] == []
    assert not names & set(short)


def test_an_indented_help_is_read_too() -> None:
    text = "options:\n  -m,    --model FNAME      model path\n         --port PORT        a port\n"
    assert set(parse_help(text)) == {"-m", "--model", "--port"}
    ik = known("ik_llama-8337e4cd3.help.txt")
    assert {"-m", "--port", "--host", "-c"} <= set(ik)
    assert "--list-devices" not in ik


@pytest.mark.parametrize(
    ("shell", "cause", "said", "hint"),
    [
        (
            "exec docker-nowhere run x",
            "wrapper",
            "docker-nowhere, which is not on PATH",
            "install docker-nowhere",
        ),
        (
            (
                "echo 'permission denied while trying to connect to the Docker daemon socket at unix:///var/run"
                '/docker.sock: Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.47/info": dial unix\' >&2; exit 1'
            ),
            "wrapper",
            "docker, which this user may not use",
            "group docker",
        ),
        (
            (
                'echo \'docker: Error response from daemon: could not select device driver "" with '
                "capabilities: [[gpu]].' >&2; exit 125"
            ),
            "wrapper",
            "a container that sees the GPU",
            "NVIDIA Container Toolkit",
        ),
        (
            ("echo 'Error: no container with name or ID \"qwen\" found: no such container' >&2; exit 125"),
            "wrapper",
            "a container that is not here",
            "create the container",
        ),
        (
            ("echo \"error: cannot connect to socket at '/nix/var/nix/daemon-socket/socket'\" >&2; exit 1"),
            "wrapper",
            "nix, whose daemon does not run",
            "nix-daemon",
        ),
        (
            "echo 'ssh: connect to host big port 22: Connection refused' >&2; exit 255",
            "wrapper",
            "ssh cannot reach",
            "try the ssh line",
        ),
        (
            (
                "printf 'Usage: llama <command> [options]\\n\\nAvailable commands:\\n  serve     HTTP "
                "API server\\n'"
            ),
            "not_a_server",
            "`llama serve`",
            "two lines",
        ),
        (
            "printf 'Large language model runner\\n\\nUsage:\\n  ollama [flags]\\n'",
            "not_a_server",
            "Ollama",
            "llama-server",
        ),
        ("exit 132", "wrong_processor", "SIGILL", "for this machine"),
        ("exit 137", "killed", "SIGKILL", "codesign"),
    ],
)
def test_scripts_and_other_programs_say_what_is_missing(
    shell: str, cause: str, said: str, hint: str, tmp_path: Path
) -> None:
    why = FieldAnswer(engine_at(program(tmp_path, shell), tmp_path / "cache"), DeviceList()).why
    assert why.cause == cause
    assert said in why.summary
    assert hint in why.hint


def test_a_driver_that_ends_the_question_for_devices_is_told_as_such(tmp_path: Path) -> None:
    """The build may be fine: without devices it serves."""
    shell = f"case $1 in --help) cat {HELP / 'b11434.txt'};; --list*) kill -SEGV $$;; esac"
    path = program(tmp_path, shell)
    assert isinstance(engine_at(path, tmp_path / "cache"), Engine)
    why = devices_of(path)
    assert isinstance(why, Unusable)
    assert why.cause == "driver_refuses"
    assert f"(signal {int(signal.SIGSEGV)})" in why.summary
    assert "qwenctl up --cpu" in why.hint
