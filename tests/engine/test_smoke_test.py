"""An engine is proved by the real program with a real model, or refused with the cause; nothing is left."""

import io
import os
import shlex
import struct
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from qwenctl.engine.smoke_test import smoke_test
from qwenctl.engine.tiny_model import tiny_model
from qwenctl.engine.used_flags import SOMETIMES
from qwenctl.model.gguf_header import read_header


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """No process may outlive a smoke test: each carries this test's folder in its command line."""
    yield
    left = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or ())]
    for process in left:
        process.kill()
    assert left == []


def engine(tmp_path: Path, real: Path, otherwise: str = "", devices: str = "", before: str = "") -> Path:
    """A script that is the real server, but for what a case changes: its start, or its devices."""
    listed = f"*--list-devices*) printf {shlex.quote(devices)}; exit 0;;" if devices else ""
    serving = f"*-m\\ *) {otherwise};;" if otherwise else ""
    path = tmp_path / "llama-server"
    path.write_text(f'#!/bin/sh\n{before}\ncase "$*" in {listed} {serving} esac\nexec {real} "$@"\n')
    path.chmod(0o755)
    return path


def test_the_bundled_engine_generates_a_token_and_is_not_asked_twice(
    server_binary: Path, tmp_path: Path
) -> None:
    first = smoke_test(server_binary, tmp_path)
    assert first.passed
    assert first.engine is not None
    assert "--ctx-size" in first.engine.known
    assert not first.remembered
    assert smoke_test(server_binary, tmp_path).remembered


def test_a_replaced_program_is_tried_again(server_binary: Path, tmp_path: Path) -> None:
    program = engine(tmp_path, server_binary)
    assert smoke_test(program, tmp_path / "cache").passed
    os.utime(program, (1, 1))
    assert not smoke_test(program, tmp_path / "cache").remembered


def test_other_devices_are_tried_again(server_binary: Path, tmp_path: Path) -> None:
    """A card that was put in may not suit the build."""
    (tmp_path / "devices").write_text("Available devices:\n")
    program = engine(tmp_path, server_binary)
    text = program.read_text().replace(
        "case ", f'test "$1" = --list-devices && exec cat {tmp_path}/devices\ncase '
    )
    program.write_text(text)
    assert smoke_test(program, tmp_path / "cache").passed
    (tmp_path / "devices").write_text("Available devices:\n  Vulkan0: Intel Arc (8000 MiB, 7000 MiB free)\n")
    assert not smoke_test(program, tmp_path / "cache").remembered
    (tmp_path / "devices").write_text("Available devices:\n  Vulkan0: Intel Arc (8000 MiB, 6999 MiB free)\n")
    assert smoke_test(program, tmp_path / "cache").remembered, "free memory is no other device"


@pytest.mark.parametrize(
    ("otherwise", "cause"),
    [
        ("kill -ILL $$", "wrong_processor"),
        ("kill -KILL $$", "killed"),
        (
            "echo 'CUDA error: no kernel image is available for execution on the device' >&2; kill -ABRT $$",
            "wrong_gpu_build",
        ),
        ("exit 0", "not_in_foreground"),
        ("echo boom >&2; exit 1", "failed"),
    ],
)
def test_a_build_that_dies_on_a_model_is_refused(
    server_binary: Path, tmp_path: Path, otherwise: str, cause: str
) -> None:
    result = smoke_test(engine(tmp_path, server_binary, otherwise), tmp_path / "cache")
    assert result.unusable is not None
    assert result.unusable.cause == cause


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("kill -ILL $$", "wrong_processor"),
        (
            'echo "$0: libc.so.6: version \\`GLIBC_2.99\' not found (required by $0)" >&2; exit 1',
            "wrong_libc",
        ),
        (
            'echo "$0: error while loading shared libraries: libmtmd.so.0: cannot open" >&2; exit 127',
            "library_missing",
        ),
        ("echo hello", "not_a_server"),
        ("exit 0", "not_a_server"),
    ],
)
def test_a_build_that_does_not_answer_is_refused_at_once(tmp_path: Path, text: str, cause: str) -> None:
    program = tmp_path / "llama-server"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    result = smoke_test(program, tmp_path / "cache")
    assert result.unusable is not None
    assert result.unusable.cause == cause


def test_a_program_of_another_machine_is_refused(tmp_path: Path) -> None:
    """The head of a real ELF file for a processor that no test runs on: 243 is RISC-V, 22 is S/390."""
    program = tmp_path / "llama-server"
    program.write_bytes(struct.pack("<4sBBBBxxxxxxxxHHI", b"\x7fELF", 2, 1, 1, 0, 2, 22, 1) + bytes(200))
    program.chmod(0o755)
    result = smoke_test(program, tmp_path / "cache")
    assert result.unusable is not None
    assert result.unusable.cause == "wrong_architecture"


def test_one_that_never_answers_is_ended_with_all_that_it_started(
    server_binary: Path, tmp_path: Path
) -> None:
    """The script waits for a child that holds its output open."""
    child = f"sh -c 'sleep 600; : {tmp_path}'"
    program = engine(tmp_path, server_binary, f"{child} & {child}")
    result = smoke_test(program, tmp_path / "cache", timeout_s=0.5)
    assert result.unusable is not None
    assert result.unusable.cause == "no_answer"


def test_a_stopped_smoke_test_ends_soon(server_binary: Path, tmp_path: Path) -> None:
    program = engine(tmp_path, server_binary, "sleep 600")
    assert not smoke_test(program, tmp_path / "cache", stopped=lambda: True).passed


def test_an_expected_card_must_be_shown(server_binary: Path, tmp_path: Path) -> None:
    result = smoke_test(server_binary, tmp_path, expects="cuda")
    assert result.unusable is not None
    assert (result.unusable.cause, result.unusable.summary) == ("device_missing", "it shows no cuda device")
    shown = engine(tmp_path, server_binary, devices="  CUDA0: NVIDIA L4 (22000 MiB, 21000 MiB free)\\n")
    assert smoke_test(shown, tmp_path / "cache", expects="cuda").passed


def test_a_full_card_says_nothing_of_the_build(server_binary: Path, tmp_path: Path) -> None:
    """The old server holds the card's memory; so the build is tried on the processor, and that is said."""
    full = (
        "case \"$*\" in *--device\\ none*) ;; *) echo 'CUDA error: out of memory' >&2; kill -ABRT $$;; esac"
    )
    program = engine(tmp_path, server_binary, full, devices="  CUDA0: NVIDIA L4 (22000 MiB, 5 MiB free)\\n")
    result = smoke_test(program, tmp_path / "cache", expects="cuda")
    assert result.passed
    assert result.note is not None
    assert not smoke_test(program, tmp_path / "cache", expects="cuda").remembered, "it is not proved yet"


def test_flags_that_are_missing_are_named(server_binary: Path, tmp_path: Path) -> None:
    program = engine(
        tmp_path, server_binary, before='case "$*" in *--help*) exec sed s/--alias/--other/ "$HELP";; esac'
    )
    old = Path(__file__).parent / "help/mid-2025.txt"
    program.write_text(program.read_text().replace('"$HELP"', str(old)))
    result = smoke_test(program, tmp_path / "cache", needed=SOMETIMES)
    assert result.unusable is not None
    assert result.unusable.cause == "too_old"
    assert "--cache-ram 4096" in result.unusable.summary


def test_no_folder_for_the_cache_costs_nothing_else(server_binary: Path) -> None:
    assert smoke_test(server_binary, Path("/proc/nowhere")).passed


def test_the_tiny_model_is_a_file_that_our_own_reader_understands() -> None:
    assert len(tiny_model()) < 400_000
    header = read_header(io.BytesIO(tiny_model()).read)
    assert header.keys["general.architecture"] == "llama"


def test_a_missing_program_is_named() -> None:
    result = smoke_test(Path("/nowhere/llama-server"), Path("/proc/nowhere"))
    assert result.unusable is not None
    assert result.unusable.cause == "not_found"
