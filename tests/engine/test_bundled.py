"""The bundled engine is a llama-server: its words, its signals, its exit codes, its socket, its slots.

Everything here runs the real program with a real model. Only a wheel that is laid out differently is made up.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from qwenctl.engine.ask import ask_server, devices_of
from qwenctl.engine.bundled import FIRST_FIELDS, PINNED
from qwenctl.engine.flags import Option, fit_to
from qwenctl.engine.program_files import bundled_library, bundled_program, fingerprint
from qwenctl.engine.usability import Unusable
from tests.fakes.home import free_port
from tests.fakes.real_models import smollm2

ROOT = Path(__file__).parents[2]
READY = b"listening on"
LINES = 2000
WAIT_S = 60


@pytest.fixture(scope="module")
def program() -> Path:
    found = bundled_program()
    if found is None:
        pytest.skip("the extra `engine` is not installed")
    return found


@pytest.fixture
def model() -> Path:
    return smollm2()


def ask(program: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )


@contextmanager
def started(program: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server until the end of the block, at most ``WAIT_S``."""
    words, environment = [str(program), *arguments], os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as server:
        bound = threading.Timer(WAIT_S, server.kill)
        bound.start()
        try:
            yield server
        finally:
            bound.cancel()
            server.kill()


@contextmanager
def serving(program: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server until the end of the block; it is ready when the block begins."""
    with started(program, *arguments, "-t", "1", "-c", "1024", "-np", "1") as server:
        seen = [line for _, line in zip(range(LINES), _until_ready(server), strict=False)]
        assert seen, "it ended before it was ready"
        assert READY in seen[-1], seen[-5:]
        yield server


def _until_ready(server: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert server.stdout is not None
    for line in server.stdout:
        yield line
        if READY in line:
            return


def client(socket: Path) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://x", timeout=WAIT_S)


def end(server: subprocess.Popen[bytes]) -> int:
    """Read the rest of what it prints, so that it never waits for us, and return its exit code."""
    assert server.stdout is not None
    server.stdout.read()
    return server.wait(WAIT_S)


def test_it_says_its_version(program: Path) -> None:
    said = ask(program, "--version")
    assert (said.returncode, said.stderr) == (0, "")
    assert re.fullmatch(r"version: \d{5} \(xllamacpp [\d.]+\)\n", said.stdout)


def test_its_help_has_every_flag_we_write(program: Path, tmp_path: Path) -> None:
    known = ask_server(program, tmp_path).known
    for name in ("--model", "--host", "--slot-save-path", "--cache-ram", "--ctx-checkpoints", "--device"):
        assert name in known
    assert fit_to((Option("--load-mode", "mlock"), Option("--fit", "off")), known, "bundled")


def test_its_defaults_are_llama_servers(program: Path) -> None:
    said = ask(program, "--help").stdout
    assert re.search(r"--port PORT +port to listen \(default: 8080\)", said)


def test_it_lists_its_devices(program: Path) -> None:
    said = ask(program, "--list-devices")
    assert said.returncode == 0
    assert said.stdout.startswith("Available devices:\n  ")


def test_workers_that_it_was_built_without_are_named(program: Path) -> None:
    why = devices_of(program, ("127.0.0.1:1",))
    assert isinstance(why, Unusable)
    assert why.summary == "it was built without RPC, which [server] rpc needs"
    assert "take the workers out of [server] rpc" in str(why.hint)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--no-such-flag",), "error: invalid argument: --no-such-flag"),
        (("--ctx-size", "many"), "error while handling argument"),
        (("-hf", "someone/some-GGUF", "--offline"), "error: .*"),
        (("-m", "/nowhere.gguf", "--port", "1"), "couldn't bind HTTP server socket|failed to load model"),
    ],
)
def test_what_it_cannot_do_ends_with_one(program: Path, arguments: tuple[str, ...], said: str) -> None:
    ended = ask(program, *arguments)
    assert ended.returncode == 1
    assert re.search(said, ended.stderr)
    assert "Traceback" not in ended.stderr


def test_a_file_that_is_no_model_ends_with_one(program: Path, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(100))
    ended = ask(program, "-m", str(tmp_path / "x.gguf"), "--host", str(tmp_path / "s.sock"))
    assert ended.returncode == 1
    assert "failed to load model" in ended.stderr


def test_a_port_that_is_taken_ends_with_one(program: Path, model: Path) -> None:
    port = str(free_port())
    with serving(program, "-m", str(model), "--port", port):
        ended = ask(program, "-m", str(model), "--port", port)
        assert ended.returncode == 1
        assert "couldn't bind" in ended.stderr


def test_it_answers_on_a_unix_socket_and_ends_in_order(program: Path, model: Path, root: Path) -> None:
    socket = root / "bundled.sock"
    with serving(program, "-m", str(model), "--host", str(socket)) as server:
        with client(socket) as http:
            asked = {
                "messages": [{"role": "user", "content": "Name the capital of France."}],
                "temperature": 0,
            }
            said = http.post("/v1/chat/completions", json=asked | {"max_tokens": 16}).json()
            assert "Paris" in said["choices"][0]["message"]["content"]
        server.send_signal(signal.SIGTERM)
        assert end(server) == 0


def test_a_conversation_outlives_a_kill(program: Path, model: Path, root: Path, tmp_path: Path) -> None:
    socket, arguments = root / "slots.sock", ("-m", str(model), "--slot-save-path", str(tmp_path) + "/")
    asked = {"prompt": "One two three four five six seven eight nine ten. " * 8, "n_predict": 4, "id_slot": 0}
    with serving(program, *arguments, "--host", str(socket)) as server:
        with client(socket) as http:
            first = http.post("/completion", json=asked).json()
            assert http.post("/slots/0?action=save", json={"filename": "kept"}).json()["n_saved"] > 0
        server.kill()
        assert end(server) == -signal.SIGKILL
    socket.unlink()
    with serving(program, *arguments, "--host", str(socket)), client(socket) as http:
        assert http.post("/slots/0?action=restore", json={"filename": "kept"}).status_code == httpx.codes.OK
        again = http.post("/completion", json=asked).json()
    assert first["timings"]["prompt_n"] > 50
    assert again["timings"]["prompt_n"] < 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_while_the_model_loads(program: Path, root: Path, number: signal.Signals) -> None:
    """The model is a pipe that nobody writes: the load waits for it, and holds Python's lock."""
    pipe = root / f"model-{number}.gguf"
    os.mkfifo(pipe)
    both_ends = os.open(pipe, os.O_RDWR)
    try:
        with started(program, "-m", str(pipe), "--host", str(root / f"load-{number}.sock")) as server:
            assert server.stdout is not None
            assert any(b"loading model" in line for _, line in zip(range(LINES), server.stdout, strict=False))
            server.send_signal(number)
            assert end(server) == -number
    finally:
        os.close(both_ends)


def test_a_second_signal_ends_it_at_once(program: Path, model: Path, root: Path) -> None:
    """An answer that may be resumed holds up the orderly end for good; llama-server's own, too."""
    socket = root / "second.sock"
    with serving(program, "-m", str(model), "--host", str(socket)) as server, client(socket) as http:
        asked = {"messages": [{"role": "user", "content": "Tell a long story."}], "stream": True}
        asked |= {"max_tokens": 4000, "ignore_eos": True}
        with http.stream(
            "POST", "/v1/chat/completions", json=asked, headers={"X-Conversation-Id": "one"}
        ) as answer:
            next(answer.iter_raw())
        server.send_signal(signal.SIGTERM)
        assert server.stdout is not None
        assert any(b"main loop exit" in line for _, line in zip(range(LINES), server.stdout, strict=False))
        server.send_signal(signal.SIGTERM)
        assert end(server) == -signal.SIGTERM


def test_it_is_called_llama_server(program: Path, model: Path, root: Path) -> None:
    with serving(program, "-m", str(model), "--host", str(root / "name.sock")) as server:
        name = Path(f"/proc/{server.pid}/comm")
        if not name.exists():
            pytest.skip("/proc is not here: a process cannot name itself on this system")
        assert name.read_text() == "llama-server\n"


def fake_wheel(folder: Path, version: str, code: str) -> str:
    """Write a wheel as pip installs it; return the search path that finds it first."""
    package, info = folder / "xllamacpp", folder / f"xllamacpp-{version}.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "xllamacpp.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: xllamacpp\nVersion: {version}\n")
    return os.pathsep.join((str(folder), str(ROOT)))


FIELDS = "\n".join(f"    {name} = 0" for name in FIRST_FIELDS)


@pytest.mark.parametrize(
    ("version", "code", "said"),
    [
        ("2027.1.12000", "", "this is 2027.1.12000"),
        (PINNED, "", "has no attribute 'CommonParams'"),
        (PINNED, "raise ImportError('libomp.so.5: cannot open shared object file')", "libomp.so.5"),
        (
            PINNED,
            f"class CommonParams:\n{FIELDS}\n",
            r"laid out differently \(n_predict is not",
        ),
    ],
)
def test_another_wheel_is_one_clear_line(
    program: Path, tmp_path: Path, version: str, code: str, said: str
) -> None:
    ended = ask(program, "--help", PYTHONPATH=fake_wheel(tmp_path, version, code))
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: cannot use the xllamacpp package: ")
    assert re.search(said, line)
    assert line.endswith(f"the bundled engine needs xllamacpp {PINNED}")


def test_a_changed_layout_is_seen_before_anything_is_written() -> None:
    """The layout's proof itself, on an object whose attributes lie somewhere else."""
    code = (
        "from qwenctl.engine.bundled import _at\n"
        "class Params:\n" + FIELDS + "\n"
        "try:\n    _at(Params())\nexcept LookupError as error:\n    print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=WAIT_S
    )
    assert said.stdout == "its CommonParams is laid out differently (n_predict is not where it was)\n"


def test_the_package_asks_for_the_version_that_is_known() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["engine"] == [f"xllamacpp=={PINNED}"]


def test_another_wheel_is_another_engine(program: Path, tmp_path: Path) -> None:
    """The script stays the same when the wheel is replaced; what it runs does not."""
    library = bundled_library()
    assert library is not None
    assert find_spec("xllamacpp") is not None
    assert fingerprint(program) == fingerprint(program)
    other = tmp_path / "llama-server"
    other.write_bytes(b"x")
    before = fingerprint(other)
    os.utime(other, (1, 1))
    assert fingerprint(other) != before
