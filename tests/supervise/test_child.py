"""Real processes: how they end, what they print, whom they leave behind."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from qwenctl.engine.address import Address
from qwenctl.engine.environment import cleaned
from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise.adopted_child import adopt, is_our_child
from qwenctl.supervise.child import ChildProcess, LogSoFar, spawn
from qwenctl.supervise.exits import Ending
from qwenctl.supervise.identity import Identity, identify
from qwenctl.supervise.logfile import LogFile, Tail, Throttle
from qwenctl.supervise.oomkills import oom_kills
from tests.fakes.home import runs, until

KILLED_AT_ONCE = "code_signature" if sys.platform == "darwin" else "killed"
"""macOS kills a program whose signature does not hold before it prints anything."""
FAKE = Path(__file__).parents[1] / "fakes" / "llama_server.py"


def shell(script: str) -> LaunchSpec:
    return LaunchSpec(("/bin/sh", "-c", script), Address("127.0.0.1", 1))


def run(spec: LaunchSpec, output: list[bytes] | None = None) -> Ending:
    async def go() -> Ending:
        return await spawn(spec, (output if output is not None else []).append).wait()

    return asyncio.run(go())


def test_the_line_that_says_listening_is_reported_once() -> None:
    heard: list[bool] = []

    async def go() -> None:
        said = shell("echo 'srv  llama_server: listening on unix:///x'; echo 'y: listening on z'")
        await spawn(said, lambda _: None, lambda: heard.append(True)).wait()

    asyncio.run(go())
    assert heard == [True]


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("exit 3", "unknown"),
        ("kill -KILL $$", KILLED_AT_ONCE),
        ("kill -TERM $$", "killed"),
        ("kill -SEGV $$", "crashed"),
        ("echo 'error: invalid argument: --x' >&2; exit 1", "bad_flag"),
    ],
)
def test_an_ending_is_told_from_code_signal_and_log(script: str, cause: str) -> None:
    assert run(shell(script)).cause == cause


def test_the_last_hundred_lines_come_with_the_ending() -> None:
    ending = run(shell("for n in $(seq 500); do echo line $n; done; printf 'no newline'; exit 3"))
    assert len(ending.log_tail) == 100
    assert ending.log_tail[-2:] == ("line 500", "no newline")


def test_stragglers_of_the_group_are_ended_with_it() -> None:
    output: list[bytes] = []
    run(shell("sleep 1000 & echo $!; exit 3"), output)
    straggler = int(b"".join(output))
    until(lambda: not runs(straggler), within=5)


def test_a_process_that_left_the_group_does_not_hold_up_the_end() -> None:
    output: list[bytes] = []
    assert run(shell("setsid sleep 30 & echo $!; sleep 0.1; exit 3"), output).cause == "unknown"
    psutil.Process(int(b"".join(output))).kill()


def test_a_child_that_closes_its_output_is_not_taken_for_ended() -> None:
    assert run(shell("exec >/dev/null 2>&1; sleep 0.1; exit 4")).summary == "exited with code 4"


def test_a_child_that_was_waited_for_gets_no_signal() -> None:
    async def go() -> None:
        child = spawn(shell("exit 3"), lambda _: None)
        await child.wait()
        child.signal(signal.SIGKILL)

    asyncio.run(go())


def test_the_child_of_a_killed_parent_dies() -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux has the parent-death signal")
    script = (
        "import asyncio, sys, time\n"
        "from tests.supervise.test_child import shell\n"
        "from qwenctl.supervise.child import spawn\n"
        "async def go():\n"
        "    print(spawn(shell('sleep 1000'), lambda _: None).pid, flush=True)\n"
        "    await asyncio.sleep(1000)\n"
        "asyncio.run(go())\n"
    )

    async def go() -> int:
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, cwd=FAKE.parents[2]
        )
        assert parent.stdout is not None
        pid = int(await parent.stdout.readline())
        parent.kill()
        await parent.wait()
        return pid

    child = asyncio.run(go())
    until(lambda: not runs(child), within=5)


def test_a_log_storm_neither_blocks_the_child_nor_fills_the_disk(tmp_path: Path) -> None:
    """200 MB as fast as they come; what is kept is bounded and says what was left out."""
    log = LogFile(tmp_path / "server.log", max_bytes=1_000_000, keep=5)
    throttle = Throttle(log.write, bytes_per_s=1e6, burst_bytes=2e6)
    storm = "for n in range(2000): os.write(1, b'x' * 99_999 + b'\\n')"
    script = f"import os\n{storm}\nos.write(1, b'the end\\n')\nos._exit(3)"
    spec = LaunchSpec((sys.executable, "-c", script), Address("127.0.0.1", 1))

    async def go() -> Ending:
        return await asyncio.wait_for(spawn(spec, throttle).wait(), timeout=60)

    ending = asyncio.run(go())
    assert ending.log_tail[-1] == "the end"
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 6_500_000


def test_a_throttle_says_how_many_bytes_it_left_out() -> None:
    written: list[bytes] = []
    now = 0.0
    throttle = Throttle(written.append, bytes_per_s=10, burst_bytes=10, clock=lambda: now)
    for data in (b"12345678", b"too much", b"too much"):
        throttle(data)
    now = 1.0
    throttle(b"again")
    assert written == [b"12345678", b"\n[qwenctl: 16 bytes left out here]\n", b"again"]


def test_a_full_disk_is_shown_as_an_error_and_raises_nothing(tmp_path: Path) -> None:
    log = LogFile(Path("/dev/full"))
    log.write(b"x")
    assert log.error == "cannot write /dev/full: no space left on device"
    gone = LogFile(tmp_path / "gone" / "server.log")
    gone.write(b"x")
    assert gone.error is not None
    (tmp_path / "gone").mkdir()
    gone.write(b"x")
    assert gone.error is None


def test_old_parts_of_a_log_are_kept_up_to_five(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "s.log", max_bytes=10, keep=5)
    for number in range(10):
        log.write(b"%d" % number * 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "s.log",
        *(f"s.log.{n}" for n in range(1, 6)),
    ]
    assert (tmp_path / "s.log.1").read_bytes() == b"8" * 10


def test_a_tail_takes_lines_in_pieces() -> None:
    tail = Tail()
    for piece in (b"one\ntw", b"o\nthr", b"ee"):
        tail.feed(piece)
    assert tail.lines() == ("one", "two", "three")
    assert Tail().lines() == ()


def test_the_environment_is_cleaned_of_what_would_change_the_server_unseen() -> None:
    given = {
        "PATH": "/bin",
        "LLAMA_API_KEY": "x",
        "LLAMA_ARG_CTX_SIZE": "1",
        "QWENCTL_PROFILE": "demo",
        "HF_TOKEN": "t",
    }
    assert cleaned(given) == {"PATH": "/bin", "GGML_NO_BACKTRACE": "1"}


@pytest.mark.parametrize(
    ("membership", "file", "text"),
    [
        ("0::/user/q", "cg/user/q/memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"),
        (
            "4:memory:/a\n0::/",
            "cg/memory/a/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        ),
        ("0::/", "proc/vmstat", "pgfault 12\noom_kill 2\n"),
    ],
)
def test_kernel_kills_are_counted_where_the_kernel_counts_them(
    tmp_path: Path, membership: str, file: str, text: str
) -> None:
    assert oom_kills(tmp_path / "proc", tmp_path / "cg") == 0
    for path, content in ((tmp_path / "proc/self/cgroup", membership), (tmp_path / file, text)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert oom_kills(tmp_path / "proc", tmp_path / "cg") == 2


def test_the_binary_that_is_not_there_is_an_os_error() -> None:
    async def go() -> ChildProcess:
        return spawn(LaunchSpec(("/nonexistent/llama-server",), Address("127.0.0.1", 1)), lambda _: None)

    with pytest.raises(FileNotFoundError):
        asyncio.run(go())


def forgotten(spec: LaunchSpec) -> tuple[Identity, int]:
    """Start a child that nothing in this program knows, as after ``exec``. Return it and its output."""
    reading, writing = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, writing, 1)]
    pid = os.posix_spawn("/bin/sh", list(spec.argv), os.environ, file_actions=actions, setpgroup=0)
    os.close(writing)
    who = identify(pid)
    assert who is not None
    return who, reading


def adopted(script: str, *, wait_first: bool = False) -> tuple[bool, Ending, bytes]:
    """Take over such a child: is it ours, how did it end, what did it say?"""
    spec, output = shell(script), bytearray()
    who, reading = forgotten(spec)
    if wait_first:
        until(lambda: identify(who.pid) is None, 20)
    ours = is_our_child(who)

    async def go() -> Ending:
        log = LogSoFar(serving=True, echoed=False, known=True, said="before\n", oom_kills=oom_kills())
        child = adopt(who, reading, spec, log, output.extend)
        assert child.log_so_far.said == "before\n"
        return await child.wait()

    return ours, asyncio.run(go()), bytes(output)


def test_a_child_of_an_earlier_program_is_read_and_waited_for() -> None:
    ours, ending, output = adopted("sleep 0.1; echo more; kill -SEGV $$")
    assert (ours, ending.cause, output) == (True, "crashed", b"more\n")
    assert ending.log_tail == ("before", "more")


def test_one_that_ended_in_between_says_how() -> None:
    ours, ending, output = adopted("sleep 0.1; echo last words; exit 3", wait_first=True)
    assert (ours, output) == (True, b"last words\n")
    assert "3" in ending.summary


def test_the_lifeline_of_an_earlier_program_is_kept_until_the_end() -> None:
    who, reading = forgotten(shell("exit 0"))
    end, lifeline = os.pipe()
    os.set_inheritable(lifeline, True)  # as before exec

    async def go() -> None:
        log = LogSoFar(serving=True, echoed=False, known=True, said="", oom_kills=oom_kills())
        child = adopt(who, reading, shell(""), log, lambda _: None, lifeline)
        assert child.lifeline == lifeline
        assert not os.get_inheritable(lifeline)
        await child.wait()

    asyncio.run(go())
    assert os.read(end, 1) == b"", "and closed with the child, so that its watcher ends"
    os.close(end)


def test_a_stranger_is_no_child_of_ours() -> None:
    parent = identify(os.getppid())
    assert parent is not None
    assert not is_our_child(parent)
    ended = subprocess.Popen(["/bin/true"])
    who = Identity(ended.pid, "boot/1", "/bin/true")
    ended.wait()
    assert not is_our_child(who)
