"""Each way to end, told from what the real server printed (samples/), and from signals."""

from pathlib import Path

import pytest

from qwenctl.supervise.evidence import ExitContext, devices_of
from qwenctl.supervise.exits import Ending, because, classify

SAMPLES = Path(__file__).parent / "samples"
EXPECTED = {
    "address_not_ours": ("port_taken", False),
    "bad_flag": ("bad_flag", True),
    "bad_value": ("bad_flag", True),
    "bad_value_of_flash_attn": ("bad_flag", True),
    "cuda_launch_failure": ("gpu_lost", False),
    "cuda_out_of_memory": ("device_out_of_memory", False),
    "cuda_out_of_memory_for_compute": ("device_out_of_memory", False),
    "host_memory_at_load": ("host_out_of_memory", False),
    "host_memory_for_context": ("host_out_of_memory", False),
    "kernel_out_of_memory": ("killed", False),  # the log cannot tell; the kernel's counter can
    "library_missing": ("library_missing", True),
    "macos_library_missing": ("library_missing", True),
    "missing_value": ("bad_flag", True),
    "model_missing": ("model_missing", True),
    "model_no_gguf": ("model_corrupt", True),
    "model_truncated": ("model_corrupt", True),
    "model_truncated_header": ("model_corrupt", True),
    "model_unknown_architecture": ("model_unknown", True),
    "port_taken": ("port_taken", False),
    "rpc_device_lost": ("gpu_lost", False),
    "rpc_device_missing": ("gpu_lost", False),
    "sigabrt": ("crashed", False),
    "sigint": ("killed", False),
    "sigkill": ("killed", False),
    "sigsegv": ("crashed", False),
    "sigterm": ("killed", False),
    "socket_folder_missing": ("port_taken", False),
    "socket_taken": ("port_taken", False),
    "vulkan_device_lost": ("gpu_lost", False),
    "vulkan_out_of_memory": ("device_out_of_memory", False),
}


def read(name: str) -> tuple[int, tuple[str, ...]]:
    said, code, *lines = (SAMPLES / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert said.startswith(("# captured: ", "# written after "))
    return int(code.removeprefix("# exit: ")), tuple(lines)


@pytest.mark.parametrize("name", EXPECTED)
def test_what_the_server_printed_gives_the_cause_away(name: str) -> None:
    code, tail = read(name)
    ending = classify(code, tail)
    assert (ending.cause, ending.permanent) == EXPECTED[name]
    assert ending.log_tail == tail
    assert ending.cause in ("killed", "crashed") or ending.hint


def test_every_sample_is_expected_to_mean_something() -> None:
    assert {path.stem for path in SAMPLES.glob("*.txt")} == set(EXPECTED)


@pytest.mark.parametrize(
    ("name", "summary"),
    [
        ("bad_flag", "it does not know a flag: --no-such-flag"),
        ("bad_value", "it does not accept a flag's value: -c"),
        ("library_missing", "a library is missing: libllama-server-impl.so"),
        ("model_missing", "the model file cannot be opened: /nonexistent/x.gguf"),
        ("port_taken", "its address is taken or not allowed: 127.0.0.1, port: 18112"),
        ("cuda_out_of_memory", "device memory ran out: cudaMalloc failed: out of memory"),
        ("sigsegv", "crashed (SIGSEGV)"),
        ("sigterm", "ended from outside (SIGTERM or SIGINT)"),
    ],
)
def test_the_summary_names_what_is_wrong(name: str, summary: str) -> None:
    assert classify(*read(name)).summary == summary


def test_a_kill_by_the_kernel_means_that_host_memory_ran_out() -> None:
    code, tail = read("kernel_out_of_memory")
    assert classify(code, tail, oom_killed=True).cause == "host_out_of_memory"


def test_a_signal_from_outside_says_more_than_an_old_line_in_the_log() -> None:
    _, tail = read("cuda_out_of_memory")
    assert classify(-9, tail).cause == "killed"
    assert classify(0, tail).cause == "killed"


def test_a_silent_exit_is_unknown_and_is_tried_again() -> None:
    ending = classify(3, ())
    assert (ending.cause, ending.summary, ending.permanent) == ("unknown", "exited with code 3", False)


UNUSABLE = SAMPLES.parents[1] / "engine/unusable"


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("cuda-no-kernel-image", "wrong_build"),
        ("cuda-ptx-toolchain", "wrong_build"),
        ("glibc-too-old", "wrong_build"),
        ("illegal-instruction", "wrong_build"),
        ("libcublas-missing", "library_missing"),
        ("linux-undefined-symbol", "wrong_build"),
        ("rocm-invalid-device-function", "wrong_build"),
        ("wrapper-132", "wrong_build"),
    ],
)
def test_a_build_that_does_not_suit_the_machine_is_permanent_and_names_the_way_out(
    name: str, cause: str
) -> None:
    _, code, *lines = (UNUSABLE / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    ending = classify(int(code.removeprefix("# exit: ")), tuple(lines))
    assert (ending.cause, ending.permanent) == (cause, True)
    assert ending.hint


@pytest.mark.parametrize(
    ("code", "cause"), [(137, "killed"), (143, "killed"), (134, "crashed"), (255, "unknown")]
)
def test_a_shell_around_the_server_passes_its_signal_on(code: int, cause: str) -> None:
    assert classify(code, ()).cause == cause


FULL = "ggml_gallocr_reserve_n_impl: failed to allocate CUDA0 buffer of size 275800128"
STALLED = Ending("not_ready", "generated no token within 600 s")


@pytest.mark.parametrize(
    ("line", "devices", "cause"),
    [
        (FULL, None, "device_out_of_memory"),
        (FULL, ("CUDA0",), "device_out_of_memory"),
        (FULL, (), "not_ready"),
        ("ggml_vulkan: device lost on NVIDIA GeForce RTX 2060", None, "gpu_lost"),
        ("llama_model_load: error loading model: missing tensor 'x'", None, "not_ready"),
        (f"0.00.001.000 W srv  x: {FULL}", None, "not_ready"),
    ],
)
def test_a_server_that_never_got_ready_may_say_why(
    line: str, devices: tuple[str, ...] | None, cause: str
) -> None:
    assert because(STALLED, Ending("killed", "ended", log_tail=(line,)), devices).cause == cause
    wedged = Ending("wedged", "no progress")
    assert because(wedged, Ending("killed", "ended", log_tail=(line,)), devices) == wedged


@pytest.mark.parametrize(
    ("argv", "devices"),
    [
        (("llama-server", "-m", "x"), None),
        (("llama-server", "--device", "none"), ()),
        (("llama-server", "--device", "CUDA0,CUDA1", "-c", "1"), ("CUDA0", "CUDA1")),
        (("llama-server", "--rpc", "a:1,b:1", "--device", "CUDA0"), ("CUDA0", "RPC0", "RPC1")),
    ],
)
def test_the_devices_of_a_command_line_are_known(
    argv: tuple[str, ...], devices: tuple[str, ...] | None
) -> None:
    assert devices_of(argv) == devices


def test_what_a_living_server_complained_of_is_found_before_its_later_lines() -> None:
    """A Metal backend that has failed once stays in error, and the server goes on."""
    tail = (
        "error: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
        "0.03.100.000 E srv  update_slots: Compute error. off = 0, n_batch = 2048, ret = -3",
        "0.03.200.000 I slot      release: id  0 | task 4 | stop processing: n_tokens = 1, truncated = 0",
        "0.03.300.000 I srv  update_slots: all slots are idle",
    )
    assert classify(-6, tail).cause == "crashed"
    assert classify(-6, tail, context=ExitContext(serving=False)).cause == "device_out_of_memory"


@pytest.mark.parametrize(
    ("code", "platform", "cause"),
    [(-7, "linux", "disk"), (-10, "darwin", "disk"), (-10, "linux", "crashed"), (-7, "darwin", "crashed")],
)
def test_a_bus_error_has_another_number_on_another_system(code: int, platform: str, cause: str) -> None:
    assert classify(code, (), context=ExitContext(platform=platform)).cause == cause
