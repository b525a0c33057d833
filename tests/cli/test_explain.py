"""``explain``: the log of any llama-server, from a file or a pipe; wrong input first."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwenctl.cli.log_source import LogSource
from qwenctl.supervise.evidence import ExitContext
from qwenctl.supervise.exits import Ending, classify
from qwenctl.supervise.post_mortem import examine, what_follows
from tests.fakes.home import Home

SUPERVISE = Path(__file__).parents[1] / "supervise"
CRASH, SAMPLES = SUPERVISE / "crash", SUPERVISE / "samples"
DEPENDS = {
    "58-exit-0-detached-wrapper",  # an id of docker: only the exit code shows that it ended
    "40-sigbus-file-truncated",
    "41-illegal-instruction",
    "seccomp",
    "67-macos-killed-9",
    "kept-going-after-prompt-cache",
    "failed-memory-for-the-context",
    "hang-up",
    "interrupt",
    "illegal-instruction-core",  # the signal is the proof, not a line
    "macos-zsh-killed-9",
    "ollama-signal-killed",  # ollama says it in a field of its own
}
"""Logs that do not say themselves how the server ended."""
SILENT = {"kernel_out_of_memory", "sigabrt", "sigkill", "sigsegv"}


def body(file: Path) -> tuple[int, list[str]]:
    """Return the exit code of a head, and the lines after it."""
    text = file.read_text(encoding="utf-8")
    code = re.search(r"(?m)^# exit: (-?\d+)$", text)
    assert code is not None
    return int(code[1]), re.sub(r"(?m)\A(?:# .*\n)*", "", text).split("\n")


def write(home: Home, *lines: str) -> str:
    file = home.path / "server.log"
    file.write_text("\n".join(lines), encoding="utf-8")
    return str(file)


def explained(home: Home, *lines: str, words: tuple[str, ...] = ()) -> dict[str, Any]:
    answer = home.json("explain", write(home, *lines), *words)
    assert answer["ok"], answer
    data: dict[str, Any] = answer["data"]
    return data


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (("nowhere.log",), 1, "cannot read nowhere.log: no such file or directory", "qwenctl logs"),
        ((".",), 1, "cannot read .: is a directory", "name the log itself"),
        ((), 2, "", ""),
        (("x", "--exit", "1", "--signal", "SEGV"), 2, "--exit and --signal were both given", "128 + N"),
        (("x", "--signal", "FOO"), 2, "there is no signal 'FOO'", "kill -l"),
        (("x", "--signal", "0"), 2, "there is no signal '0'", "kill -l"),
        (("x", "--signal", "99"), 2, "there is no signal '99'", "kill -l"),
        (("x", "--exit", "4000"), 2, "4000", ""),
        (("x", "--exit", "one"), 2, "one", ""),
    ],
)
def test_wrong_input_is_one_clear_line(
    bare_home: Home, words: tuple[str, ...], code: int, message: str, hint: str
) -> None:
    ran = bare_home.run("explain", *words)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err.splitlines()[0]
    assert hint in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_names_the_way_out(bare_home: Home) -> None:
    file = write(bare_home, "x")
    Path(file).chmod(0)
    ran = bare_home.run("explain", file)
    assert ran.code == 1
    assert ran.err.splitlines() == [
        f"cannot read {file}: permission denied",
        f"hint: sudo cat {file} | qwenctl explain -",
    ]


@pytest.mark.parametrize("file", sorted(CRASH.glob("*.txt")), ids=lambda file: file.stem)
def test_a_log_alone_shows_what_log_and_exit_code_show(file: Path) -> None:
    """How the server ended is in its last words, in all but a few."""
    code, lines = body(file)
    tail = tuple(lines[:-1] if lines[-1] == "" else lines)
    platform = "darwin" if "macos" in file.stem or "metal" in file.stem else "linux"
    found = examine(tail, None, ExitContext(platform=platform))
    told = examine(tail, code, ExitContext(platform=platform))
    assert told.ending == classify(code, tail, context=ExitContext(platform=platform))
    assert not told.assumed
    assert told.action
    if file.stem in DEPENDS:
        return
    assert found.assumed
    assert found.ending is not None
    assert told.ending is not None
    assert (found.ending.cause, found.ending.permanent) == (told.ending.cause, told.ending.permanent)
    assert found.proof or found.ending.cause in ("killed", "crashed", "disk")


@pytest.mark.parametrize("file", sorted(SAMPLES.glob("*.txt")), ids=lambda file: file.stem)
def test_a_captured_log_alone_shows_its_cause(file: Path) -> None:
    code, lines = body(file)
    tail = tuple(lines[:-1])
    found = examine(tail, None, ExitContext())
    if file.stem in SILENT:
        assert found.ending is None
        assert found.action.startswith("nothing: the log does not show that the server ended")
        return
    assert found.ending is not None
    assert found.ending.cause == classify(code, tail).cause


def test_the_answer_has_the_cause_its_line_and_both_ways_out(bare_home: Home) -> None:
    _, lines = body(CRASH / "28-qwen36-mtp-old-build.txt")
    data = explained(bare_home, *lines)
    assert (data["cause"], data["permanent"]) == ("model_unknown", True)
    assert data["line"].endswith("error loading model: missing tensor 'blk.64.ssm_conv1d.weight'")
    assert data["qwenctl"].startswith("stop trying")
    assert "install a newer llama.cpp" in data["hint"]
    assert data["exit"] == {"code": 1, "assumed": True}
    shown = bare_home.run("explain", write(bare_home, *lines))
    assert (shown.code, shown.err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in shown.out.splitlines())
    assert rows["cause"] == "model_unknown (permanent)"
    assert rows["end"] == "exit code 1 (taken from the log; --exit N or --signal NAME says it)"
    assert rows["qwenctl"].startswith("would stop trying")


@pytest.mark.parametrize(
    ("words", "cause", "end"),
    [
        (("--signal", "SIGABRT"), "device_out_of_memory", "SIGABRT"),
        (("--signal", "abrt"), "device_out_of_memory", "SIGABRT"),
        (("--signal", "6"), "device_out_of_memory", "SIGABRT"),
        (("--exit", "134"), "device_out_of_memory", "exit code 134, which is SIGABRT"),
        (("--exit", "-6"), "device_out_of_memory", "SIGABRT"),
        (("--signal", "SEGV"), "crashed", "SIGSEGV"),
        (("--exit", "137"), "killed", "exit code 137, which is SIGKILL"),
    ],
)
def test_how_it_ended_can_be_said(bare_home: Home, words: tuple[str, ...], cause: str, end: str) -> None:
    _, lines = body(CRASH / "04-cublas-resource-allocation.txt")
    assert explained(bare_home, *lines, words=words)["cause"] == cause
    assert f"end        {end}\n" in bare_home.run("explain", write(bare_home, *lines), *words).out


def test_a_server_that_is_alive_or_ended_well_is_called_so(bare_home: Home) -> None:
    _, lines = body(SAMPLES / "sigterm.txt")
    assert "ended cleanly" in bare_home.run("explain", write(bare_home, *lines)).out
    alive = [line for line in lines if "cleaning up" not in line and "memory_breakdown" not in line]
    said = bare_home.run("explain", write(bare_home, *alive)).out
    assert said.startswith("no end: nothing in this log shows that the server ended; it took requests\n")
    data = explained(bare_home, *alive)
    assert (data["ended"], data["cause"], data["took_requests"]) == (False, None, True)


def test_junk_and_nothing_are_no_log_of_a_server(bare_home: Home) -> None:
    (bare_home.path / "junk").write_bytes(bytes(range(256)) * 4000)
    (bare_home.path / "empty").touch()
    assert "does not look like the log of a llama-server" in bare_home.run("explain", "junk").out
    assert "the log is empty" in bare_home.run("explain", "empty").out
    assert bare_home.json("explain", "junk")["data"]["is_llama_server"] is False


@pytest.mark.parametrize(
    "carried",
    [
        "server  | {}",
        "Nov 26 08:00:01 box llama-server[812]: {}",
        "2026-11-26T08:00:01.123456789Z stderr F {}",
        "[2026-11-26 08:00:01.123] {}",
        "\x1b[31m{}\x1b[0m",
        "{}\r",
    ],
)
def test_what_carried_the_log_makes_no_difference(bare_home: Home, carried: str) -> None:
    _, lines = body(SAMPLES / "model_truncated.txt")
    data = explained(bare_home, *(carried.format(line) for line in lines if line))
    assert (data["cause"], data["is_llama_server"]) == ("model_corrupt", True)


@pytest.mark.parametrize(
    "record",
    [
        lambda line: {"log": line + "\n", "stream": "stderr", "time": "2026-11-26T08:00:01.123456789Z"},
        lambda line: {"__CURSOR": "s=1;i=2", "PRIORITY": "6", "MESSAGE": line},
        lambda line: {"_PID": "812", "MESSAGE": list(line.encode())},
    ],
    ids=["docker's json-file", "journalctl -o json", "journalctl -o json, not UTF-8"],
)
def test_a_log_of_json_records_is_read(bare_home: Home, record: Callable[[str], dict[str, object]]) -> None:
    """Source: docker, "JSON File logging driver"; systemd, "Journal JSON Format"."""
    _, lines = body(SAMPLES / "model_truncated.txt")
    data = explained(bare_home, *(json.dumps(record(line)) for line in lines if line), "")
    assert (data["cause"], data["is_llama_server"]) == ("model_corrupt", True)


STARTS = [
    "0.00.000.906 I srv  llama_server: initializing ...",
    "build: 6945 (cc98f8d34) with MSVC 19.29.30154.0 for x64",
    "build_info: b8660-4aa962e2b",
    "main: build = 3265 (72272b83)",
    'INFO [                    main] build info | tid="139" timestamp=1719849600 build=3265',
]
"""The last four: llama.cpp issue 18546, pull request 21460, and builds of 2024."""


@pytest.mark.parametrize("start", STARTS)
def test_only_the_last_start_in_a_log_is_explained(bare_home: Home, start: str) -> None:
    """A log of a service has every start in it, and a load that fails follows a server that served."""
    _, served = body(SAMPLES / "sigterm.txt")
    _, failed = body(SAMPLES / "model_truncated.txt")
    device = "ggml_vulkan_init: Found 1 Vulkan devices:"
    data = explained(bare_home, *served, device, start, *failed[1:])
    assert (data["cause"], data["took_requests"]) == ("model_corrupt", False)
    assert data["qwenctl"].startswith("stop trying")


def test_what_a_library_says_before_a_start_belongs_to_that_start(bare_home: Home) -> None:
    _, served = body(SAMPLES / "sigterm.txt")
    lost = "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected"
    source = LogSource.of(write(bare_home, *served, lost, STARTS[0]))
    assert [line for line in source.tail.lines() if line] == [lost, STARTS[0]]


def test_a_client_s_text_imitates_no_start(bare_home: Home) -> None:
    _, served = body(SAMPLES / "sigsegv.txt")
    echo = "0.05.000.000 E srv    operator(): got exception: error parsing grammar: root"
    data = explained(bare_home, *served, echo, STARTS[0], "error: CUDA error: out of memory")
    assert (data["cause"], data["clients_wrote"], data["took_requests"]) == (None, True, True)
    assert "since the server's last start" in bare_home.run("explain", str(bare_home.path / "server.log")).out


def test_a_closed_standard_input_is_an_empty_log(bare_home: Home) -> None:
    words = [sys.executable, "-m", "qwenctl", "explain", "-"]
    shell = ["sh", "-c", 'exec "$@" <&-', "sh", *words]
    ran = subprocess.run(
        shell, env=bare_home.environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "note: the log is empty" in ran.stdout


def test_ollama_s_words_around_a_runner_are_understood(bare_home: Home) -> None:
    """Source: ollama issue 8851."""
    data = explained(
        bare_home,
        "Memory access fault by GPU node-1 (Agent handle: 0x559ee9967590) on address 0x7fe05f439000. Reason: "
        "Page not present or supervisor privilege.",
        'time=2025-02-05T15:41:26.252Z level=ERROR source=sched.go:455 msg="error loading llama server" '
        'error="llama runner process has terminated: signal: aborted (core dumped)"',
    )
    assert data["cause"] == "gpu_lost"


def test_a_log_of_any_size_is_read_from_a_pipe(bare_home: Home) -> None:
    _, lines = body(CRASH / "04-cublas-resource-allocation.txt")
    noise = "0.24.451.148 I slot print_timing: id  0 | task 1 | prompt eval time = 1.00 ms\n" * 200_000
    done = subprocess.run(
        [sys.executable, "-m", "qwenctl", "--json", "explain", "-"],
        input=(noise + "\n".join(lines)).encode(),
        env=bare_home.environment,
        cwd=bare_home.path,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert json.loads(done.stdout)["data"]["cause"] == "device_out_of_memory"


def test_a_client_s_text_is_named_and_decides_nothing(bare_home: Home) -> None:
    lines = (
        "0.00.413.778 I srv  llama_server: listening on http://127.0.0.1:18115",
        "parse: error parsing grammar: expecting name at x",
        "CUDA error: out of memory",
        "/b/ggml-cuda.cu:109: CUDA error",
    )
    data = explained(bare_home, *lines, words=("--signal", "SEGV"))
    assert (data["cause"], data["clients_wrote"], data["line"]) == ("crashed", True, None)
    assert explained(bare_home, *lines)["ended"] is False


@pytest.mark.parametrize(
    ("cause", "permanent", "serving", "words"),
    [
        ("device_out_of_memory", False, True, "plan something smaller"),
        ("host_out_of_memory", False, False, "plan something smaller"),
        ("wrong_build", True, False, "stop trying"),
        ("wrong_build", True, True, "start it again at once"),
        ("model_unknown", True, True, "stop trying"),
        ("gpu_lost", False, False, "start the same again"),
        ("killed", False, True, "start it again at once"),
        ("crashed", False, True, "up to five times in 60 s"),
        ("crashed", False, False, "after 1 s, 2 s"),
    ],
)
def test_what_qwenctl_would_do_is_what_it_does(
    cause: str,
    permanent: bool,  # noqa: FBT001 - a table
    serving: bool,  # noqa: FBT001 - a table
    words: str,
) -> None:
    assert words in what_follows(Ending(cause, "", permanent), serving=serving)
