"""Why a program cannot be used, told from what an attempt to run it showed. Each cause names a way out."""

import errno
from pathlib import Path

import pytest

from qwenctl.engine.flags import parse_help
from qwenctl.engine.other_programs import other_program
from qwenctl.engine.usability import (
    MAY_BE_QUARANTINED,
    Attempt,
    card_unused,
    quarantined,
    why_unusable,
)

SAMPLES = Path(__file__).parent / "unusable"
EXPECTED = {
    "bad-cpu-type": ("wrong_architecture", "bad CPU type"),
    "bundled-without-libgomp": ("library_missing", "libgomp.so.1"),
    "cuda-no-kernel-image": ("wrong_gpu_build", "no kernel image"),
    "cuda-ptx-toolchain": ("driver_too_old", "unsupported toolchain"),
    "driver-insufficient": ("driver_too_old", "insufficient"),
    "dyld-library-missing": ("library_missing", "libmtmd.0.dylib"),
    "dyld-symbol-not-found": ("library_mixed", "_ggml_backend_dev_by_type"),
    "dyld-system-policy": ("quarantined", "disallowed by system policy"),
    "exit-0-detached-wrapper": ("not_in_foreground", "exit code 0"),
    "glibc-too-old": ("wrong_libc", "GLIBC_2.38"),
    "illegal-instruction": ("wrong_processor", "SIGILL"),
    "libcublas-missing": ("library_missing", "libcublas.so.11"),
    "libmtmd-missing": ("library_missing", "libmtmd.so.0"),
    "libstdcxx-too-old": ("wrong_libc", "GLIBCXX_3.4.32"),
    "linux-undefined-symbol": ("library_mixed", "llama_memory_seq_pos_max"),
    "mac-program-in-a-script": ("wrong_architecture", "cannot execute binary file"),
    "macos-killed-9": ("killed", "SIGKILL"),
    "metal-init-m5": ("wrong_gpu_build", "Metal library"),
    "rocblas-no-tensile": ("wrong_gpu_build", "gfx1036"),
    "rocm-integrated-gpu": ("wrong_gpu_build", "gfx1036"),
    "rocm-invalid-device-function": ("wrong_gpu_build", "invalid device function"),
    "sycl-list-devices-abort": ("driver_refuses", "failed to get device memory size"),
    "wrapper-132": ("wrong_processor", "SIGILL"),
    "wrapper-needs-docker": ("wrapper", "Cannot connect to the Docker daemon"),
}


def shown(name: str) -> Attempt:
    said, code, *lines = (SAMPLES / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert said.startswith("# written after ")
    return Attempt(int(code.removeprefix("# exit: ")), "", "\n".join(lines))


@pytest.mark.parametrize("name", EXPECTED)
def test_what_a_program_showed_gives_the_cause_away(name: str) -> None:
    why = why_unusable(shown(name), "--version")
    cause, named = EXPECTED[name]
    assert why.cause == cause
    assert named in why.summary
    assert why.hint
    assert "\n" not in why.summary + why.hint


def test_every_sample_is_expected_to_mean_something() -> None:
    assert {path.stem for path in SAMPLES.glob("*.txt")} == set(EXPECTED)


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ENOEXEC, "wrong_architecture"),
        (errno.EACCES, "not_executable"),
        (errno.ENOENT, "not_found"),
        (86, "wrong_architecture"),  # EBADARCH of macOS
        (errno.ENOMEM, "not_started"),
    ],
)
def test_a_program_that_cannot_be_started_says_why(number: int, cause: str) -> None:
    why = why_unusable(Attempt(errno=number, stderr="Cannot allocate memory"), "--version")
    assert why.cause == cause
    assert why.hint


def test_no_answer_in_time_is_a_cause() -> None:
    why = why_unusable(Attempt(None, timed_out=True), "--list-devices")
    assert (why.cause, why.summary) == ("no_answer", "no answer to --list-devices in time")


def test_the_last_words_are_cut_to_a_line_that_can_be_read() -> None:
    assert len(why_unusable(Attempt(1, "", "x" * 5000), "--version").summary) == 300


@pytest.mark.parametrize(
    ("version", "help_text", "cause", "said"),
    [
        (
            "4871 (8337e4cd)",
            "  -rtr,   --run-time-repack       repack tensors",
            "not_a_server",
            "ik_llama.cpp",
        ),
        ("", "LLAMAFILE(1)   Manual", "not_a_server", "llamafile"),
        ("3500 (7a11eb3a)", "  -m FNAME\n         --port PORT  port", "too_old", "too old"),
        ("9000", "-m, --model FNAME   model path\n-p, --prompt PROMPT", "not_a_server", "another program of"),
        ("", "hello", "not_a_server", "not that of a llama-server"),
    ],
)
def test_another_program_is_called_by_its_name(version: str, help_text: str, cause: str, said: str) -> None:
    why = other_program(version, help_text, parse_help(help_text))
    assert why is not None
    assert why.cause == cause
    assert said in why.summary


def test_the_folder_of_a_program_in_quarantine_is_named_as_a_shell_reads_it() -> None:
    why = quarantined("/Users/mac/My Models/llama", "--version")
    assert why.hint == "xattr -dr com.apple.quarantine '/Users/mac/My Models/llama'"
    assert why.cause in MAY_BE_QUARANTINED


def test_a_mac_without_an_engine_for_its_gpu_is_told_of_homebrew() -> None:
    assert "brew install llama.cpp" in card_unused(("Apple M3 Max",), "metal").hint
    assert "brew" not in card_unused(("NVIDIA GeForce RTX 4090",), "cuda").hint
