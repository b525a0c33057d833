"""Every way out of the sandbox that we could think of, tried. Each attempt is bounded by its limits.

They are tried on Linux alone. Where the sandbox is only played, they would mount, signal and write for real.
What they expect to hear is what Linux says, too.
"""

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from qwenctl.client.sandbox import sandbox
from qwenctl.client.sandbox.sandbox import Isolation
from qwenctl.client.sandbox.sandbox_outcome import Outcome, SandboxLimits
from qwenctl.client.sandbox.seatbelt import profile
from qwenctl.client.sandbox.seccomp import ARCHITECTURES, seccomp_filter
from qwenctl.errors import SandboxError

LIMITS = SandboxLimits(
    wall_s=1.5, cpu_s=1, memory_bytes=256 * 2**20, disk_bytes=8 * 2**20, file_bytes=2 * 2**20
)
if sys.platform != "linux":
    pytest.skip("a pretended Mac's sandbox holds nothing back", allow_module_level=True)
pytestmark = pytest.mark.skipif(sandbox.unavailable() is not None, reason=str(sandbox.unavailable()))


def attempt(code: str, isolated: Isolation = "sandbox") -> Outcome:
    return sandbox.run((*sandbox.python(), "-c", code), {}, LIMITS, isolated)


def ours(mark: str) -> list[psutil.Process]:
    """Processes with ``mark`` in their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(mark in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.pid != os.getpid()]


def test_a_program_runs_and_its_output_and_code_come_back() -> None:
    files = {
        "tests.py": "from pack.solution import f\nassert f() == 3\nprint('fine')",
        "pack/solution.py": "f = lambda: 3",
    }
    outcome = sandbox.run((*sandbox.python(), "tests.py"), files, LIMITS)
    assert outcome.output == "fine\n"
    assert outcome.passed
    assert attempt("raise SystemExit(7)").code == 7
    assert attempt("import os; os.kill(os.getpid(), 6)").code == 134


def test_threads_and_child_processes_work() -> None:
    code = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
async def main():
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('child')")
    await child.wait()
asyncio.run(main())
print(list(ThreadPoolExecutor(2).map(abs, [-1, -2])))
"""
    assert attempt(code).output == "child\n[1, 2]\n"


def test_a_fork_bomb_meets_a_limit_and_is_gone_afterwards() -> None:
    mark = f"bomb-{os.getpid()}"
    code = f"""
import os, sys, time
mark, most = {mark!r}, 0
for n in range(500):
    try:
        if os.fork() == 0:
            time.sleep(60)
    except OSError:
        break
print(n)
"""
    outcome = attempt(code)
    assert int(outcome.output) < LIMITS.processes
    assert ours(mark) == []
    assert attempt("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass").ended == "time"


def test_memory_of_one_process_and_of_many_together_is_bounded() -> None:
    assert "MemoryError" in attempt("x = []\nwhile True: x.append(bytearray(2**24))").output
    many = """
import os, time
for n in range(8):
    if os.fork() == 0:
        x = b"x" * (100 * 2**20)
        time.sleep(60)
time.sleep(60)
"""
    assert attempt(many).ended == "memory"


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.memfd_create('x')",
        "import ctypes, os\nif ctypes.CDLL(None, use_errno=True).shmget(0, 2**30, 0o1600) < 0: raise OSError",
        "import ctypes\nif ctypes.CDLL(None).unshare(0x10000000): raise OSError",
        "import ctypes\nif ctypes.CDLL(None).syscall(56, 0x10000011, 0, 0, 0, 0) < 0: raise OSError",
        "import ctypes\nif ctypes.CDLL(None).mount(b't', b'/work', b'tmpfs', 0, None): raise OSError",
    ],
    ids=["memfd", "shared memory", "unshare", "clone into a namespace", "mount"],
)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")
def test_memory_that_no_limit_counts_cannot_be_had(code: str) -> None:
    assert "Error" in attempt(code).output


def test_the_disk_cannot_be_filled_by_one_file_or_by_many() -> None:
    assert "File too large" in attempt("f = open('big', 'wb')\nwhile True: f.write(b'x' * 2**20)").output
    many = "i = 0\nwhile True:\n  i += 1\n  open(f'f{i}', 'wb').write(b'x' * 2**20)"
    assert "No space left" in attempt(many).output


def test_there_is_no_network_not_even_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"""
import socket
for host in ("127.0.0.1", "192.0.2.1"):
    try: socket.create_connection((host, {port}), 1); print("connected")
    except OSError as error: print(error.strerror)
"""
        assert attempt(code).output == "Network is unreachable\nNetwork is unreachable\n"


def test_the_home_and_other_folders_cannot_be_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sesame")
    code = f"""
import os
for path in ({str(secret)!r}, "/etc/passwd", "/proc/1/environ", {str(Path.home() / ".profile")!r}):
    try: print(open(path).read())
    except OSError as error: print(error.strerror)
print(os.environ.get("SECRET"), sorted(os.environ))
"""
    lines = attempt(code).output.splitlines()
    assert lines[:4] == ["No such file or directory"] * 4
    assert lines[4] == "None ['HOME', 'LANG', 'PATH', 'PYTHONDONTWRITEBYTECODE', 'TMPDIR']"


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    code = f"""
for path in ({str(tmp_path / "x")!r}, "/usr/x", "/usr/lib/x", {str(Path(sys.prefix) / "x")!r}):
    try: open(path, "w"); print("wrote", path)
    except OSError as error: print("no")
"""
    assert attempt(code).output == "no\n" * 4
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SandboxError, match="outside"):
        sandbox.run(("true",), {"../x": ""}, LIMITS)


def test_a_background_process_does_not_outlive_the_run() -> None:
    mark = f"left-{os.getpid()}"
    code = f"""
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", {mark!r}],
                 start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("left it")
"""
    for isolated in ("sandbox", "limits"):
        outcome = attempt(code, isolated)
        assert outcome.output == "left it\n"
        assert outcome.ended == "exited"
        assert ours(mark) == []


def test_other_processes_cannot_be_signalled() -> None:
    code = f"""
import os, signal
for pid in ({os.getpid()}, {os.getpgid(0)}, -1):
    try: os.kill(pid, signal.SIGKILL); print("killed")
    except OSError as error: print(error.strerror)
"""
    assert attempt(code).output == "No such process\n" * 3


def test_endless_output_and_endless_work_are_ended() -> None:
    flood = attempt("while True: print('x' * 1000)")
    assert flood.ended == "output"
    assert len(flood.output) <= LIMITS.output_bytes
    assert attempt("import time; time.sleep(60)").ended == "time"
    assert attempt("while True: pass").code == 137


def test_a_command_that_is_not_there_is_said() -> None:
    with pytest.raises(SandboxError, match=r"cannot run code in a sandbox: .*nonsense"):
        sandbox.run(("nonsense-command",), {}, LIMITS)


@pytest.mark.skipif(
    os.getuid() != 0 or not Path("/usr/bin/python3").exists(), reason="needs root to become another"
)
def test_an_ordinary_user_gets_the_same_sandbox(tmp_path: Path) -> None:
    """Runs in a Python that everybody may read; ours may lie in a private folder."""
    code = """
from qwenctl.client.sandbox import sandbox
print(sandbox.unavailable())
from qwenctl.client.sandbox.sandbox_outcome import SandboxLimits
limits = SandboxLimits(wall_s=2)
look = "import os; print(os.listdir('/work'), os.path.exists('/home'))"
done = sandbox.run((*sandbox.python(), "-c", look), {}, limits)
print(done.output, end="")
"""
    paths = ":".join(
        (str(Path(__file__).parents[2]), *(path for path in sys.path if "site-packages" in path))
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code],
        env={"PYTHONPATH": paths},
        cwd="/",
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "ModuleNotFoundError" in done.stderr or "Permission" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.stdout.splitlines() == ["None", "[] False"], done.stderr
    assert not list(tmp_path.iterdir())


def test_machines_with_unknown_system_calls_get_no_filter_and_so_no_sandbox() -> None:
    assert seccomp_filter("vax") is None
    for machine in ARCHITECTURES:
        code = seccomp_filter(machine)
        assert code is not None
        assert len(code) % 8 == 0


def test_the_profile_for_macos_denies_all_but_what_is_named() -> None:
    text = profile('/tmp/a"b', ["/opt/python"])
    assert text.startswith("(version 1)\n(deny default)\n")
    assert '(subpath "/opt/python")' in text
    assert '(allow file-read* file-write* (subpath "/tmp/a\\"b"))' in text
    assert "network" not in text
    assert "process-fork" not in text
