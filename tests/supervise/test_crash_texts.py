"""The ends of real servers on real machines (crash/): each head says where it is from and what it means."""

import re
from pathlib import Path

import pytest

from qwenctl.supervise.evidence import ExitContext
from qwenctl.supervise.exits import Ending, classify

CRASH = Path(__file__).parent / "crash"
FILES = sorted(CRASH.glob("*.txt"))
CAUSES = {
    "wrong build for the GPU": {"wrong_build"},
    "wrong build for the CPU": {"wrong_build"},
    "driver too old for the build": {"wrong_build"},
    "model_corrupt or disk": {"model_corrupt", "disk"},
    "host_out_of_memory or killed": {"host_out_of_memory", "killed"},
    "code signature": {"code_signature"},
    "bad plan": {"bad_plan"},
}
"""What people call a cause in a head, and its names. Other heads have the name itself."""
MIXED = ("25-dyld-symbol-not-found", "26-linux-undefined-symbol")
"""A symbol is missing, not a library: that is a wrong build, and as permanent as a missing library."""
HINTS = {
    "01-cuda-no-kernel-image": "build for this card",
    "02-cuda-ptx-toolchain": "update the NVIDIA driver",
    "08-rocm-invalid-device-function": "HSA_OVERRIDE_GFX_VERSION",
    "11-rocblas-no-tensile": "leaves an integrated GPU out",
    "17-vulkan-device-lost-ring-timeout": "amdgpu.lockup_timeout",
    "19-metal-impacting-interactivity": "a restart helps",
    "20-metal-init-m5": "update llama.cpp",
    "23-libcublas-missing": "CUDA runtime",
    "25-dyld-symbol-not-found": "brew upgrade",
    "28-qwen36-mtp-old-build": "install a newer llama.cpp",
    "34-split-part-missing": "all of its parts",
    "35-invalid-split-file": "name the first one",
    "37-model-permission-denied": "chmod",
    "38-mmap-failed": "ulimit -v",
    "40-sigbus-file-truncated": "changed or cut off",
    "41-illegal-instruction": "for this machine",
    "43-chat-template-parsing-error": "--chat-template-file",
    "58-exit-0-detached-wrapper": "foreground",
    "59-read-error-bad-address": "--load-mode",
    "61-chat-template-not-supported": "--chat-template",
    "64-wrapper-137": "memory limit",
    "67-macos-killed-9": "codesign --force --sign -",
    "68-bind-old-wording": "--port",
    "70-thread-limit": "--pids-limit",
    "73-quantized-v-needs-fa": "f16",
    "no-backends-loaded": "engine install",
    "seccomp": "SystemCallFilter=",
    "wrapper-135": "changed or cut off",
}
"""Words that a hint must have."""
SUMMARIES = {
    "28-qwen36-mtp-old-build": "missing tensor 'blk.64.ssm_conv1d.weight'",
    "44-assert-seq-add": "GGML_ASSERT(hparams.n_pos_per_embd() == 1",
    "46-libstdcxx-assertion": "Assertion '__n < this->size()' failed",
    "47-ik-assert-sampling": "GGML_ASSERT(iter != probs.end()) failed",
    "50-argument-removed": "use --spec-draft-n-max",
    "53-oom-recovered-then-assert": "GGML_ASSERT(n_outputs_max",
    "62-unmatched-pattern-alloc-ok": "Qwen3.6-27B-UD-Q3_K_XL.gguf",
    "64-wrapper-137": "SIGKILL, exit code 137",
    "65-wrapper-134": "SIGABRT, exit code 134",
    "cuda-invalid-argument": "CUDA error: invalid argument",
    "ik-old-json-log": "main_gpu_id<g_all_sycl_device_count",
    "load-error-of-another-kind": "PLE layer 7 is not a linear attention layer",
    "wrapper-139": "SIGSEGV, exit code 139",
}
"""Words that a summary must quote."""


def read(name: str) -> tuple[int, str, bool, tuple[str, ...]]:
    """Return the exit code, what is expected, and the lines."""
    source, code, expected, *lines = (CRASH / f"{name}.txt").read_text(encoding="utf-8").split("\n")
    assert source.startswith("# source: ")
    found = re.fullmatch(r"# expected: cause=(.+) permanent=(True|False) hint: .+", expected)
    assert found
    lines = [line for line in lines if not line.startswith(("# hint has: ", "# quotes: "))]
    lines = lines[:-1] if lines[-1] == "" else lines
    return int(code.removeprefix("# exit: ")), found[1], found[2] == "True", tuple(lines)


def demanded(name: str) -> tuple[str, str]:
    """Return what the head of a file wants in the hint, and in the summary."""
    head = (CRASH / f"{name}.txt").read_text(encoding="utf-8").split("\n")[3:5]
    says = dict(line.split(": ", 1) for line in head if line.startswith(("# hint has: ", "# quotes: ")))
    return says.get("# hint has", HINTS.get(name, "")), says.get("# quotes", SUMMARIES.get(name, ""))


def judged(name: str) -> Ending:
    code, _, _, lines = read(name)
    platform = "darwin" if "macos" in name or "metal" in name else "linux"
    return classify(code, lines, context=ExitContext(platform=platform))


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_the_end_of_a_real_server_is_understood(name: str) -> None:
    _, cause, permanent, lines = read(name)
    ending = judged(name)
    assert ending.cause in ({"wrong_build"} if name in MIXED else CAUSES.get(cause, {cause})), ending
    assert ending.permanent == permanent
    assert ending.log_tail == lines
    assert ending.hint or ending.cause == "killed"
    hint, quoted = demanded(name)
    assert hint in (ending.hint or "")
    assert quoted in ending.summary


def test_what_must_be_said_is_said_of_files_that_are_there() -> None:
    names = {file.stem for file in FILES}
    assert set(HINTS) | set(SUMMARIES) | set(MIXED) <= names
    assert len(names) >= 50


@pytest.mark.parametrize(("platform", "said"), [("darwin", True), ("linux", False)])
def test_a_lost_worker_may_be_one_that_macos_keeps_away(platform: str, *, said: bool) -> None:
    code, _, _, lines = read("rpc-lost-under-a-request")
    ending = classify(code, lines, context=ExitContext(devices=("RPC0",), platform=platform))
    assert ("Privacy & Security, Local Network" in (ending.hint or "")) is said


@pytest.mark.parametrize(
    ("name", "devices", "cause"),
    [
        ("04-cublas-resource-allocation", ("CUDA0",), "device_out_of_memory"),
        ("04-cublas-resource-allocation", (), "crashed"),
        ("04-cublas-resource-allocation", ("Vulkan0",), "crashed"),
        ("vulkan-out-of-memory-uncaught", ("Vulkan1",), "device_out_of_memory"),
        ("vulkan-out-of-memory-uncaught", (), "crashed"),
        ("metal-buffer", ("MTL0",), "device_out_of_memory"),
        ("failed-memory-for-the-context", ("CUDA0",), "device_out_of_memory"),
        ("failed-memory-for-the-context", (), "host_out_of_memory"),
        ("rpc-lost-under-a-request", ("RPC0",), "gpu_lost"),
        ("rpc-lost-under-a-request", ("CUDA0",), "crashed"),
    ],
)
def test_a_device_that_the_plan_does_not_use_is_never_the_cause(
    name: str, devices: tuple[str, ...], cause: str
) -> None:
    code, _, _, lines = read(name)
    assert classify(code, lines, context=ExitContext(devices=devices)).cause == cause


@pytest.mark.parametrize(
    "name", ["04-cublas-resource-allocation", "71-cuda-ecc", "05-cublas-alloc-failed-old"]
)
@pytest.mark.parametrize(("code", "counts"), [(-6, True), (134, True), (-11, False), (1, False), (-8, False)])
def test_an_error_that_always_aborts_counts_only_with_an_abort(name: str, code: int, counts: bool) -> None:  # noqa: FBT001 - a table
    _, cause, _, lines = read(name)
    assert (classify(code, lines).cause == cause) == counts
