"""The program that is to take the daemon's place: ask it whether it can, and execute it.

It is asked before anything stops, with the state that it would get. So a program that does not start, hangs,
or is too old to know that state is refused, and the clients notice nothing.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence

from qwenctl.errors import ControlError
from qwenctl.files import reason
from qwenctl.service.places import LABELS

HANDOVER, CHECK = "--handover", "--check-handover"
"""Options of ``run``: the open file with the state, to take over or only to be looked at."""
ANSWER_WITHIN_S = 20.0
ANSWER_BYTES = 1 << 16
HELD_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""They wait in the kernel while no program handles them: their default would end the daemon."""
HINT = "nothing was stopped, and the daemon goes on as it was"


def is_launchd_job(environment: Mapping[str, str] | None = None) -> bool:
    """Return whether launchd runs this process as our job or Homebrew's, so that it starts it again.

    launchd gives each job its label in this variable. A shell has ``0`` there, or the label of its terminal
    (``application.com.apple.Terminal.…``): only our labels count.
    """
    variables = os.environ if environment is None else environment
    return variables.get("XPC_SERVICE_NAME") in LABELS


def own_program() -> tuple[str, ...]:
    """Return the words that started this program, without its arguments."""
    count = len(sys.argv) - 1
    words = sys.orig_argv[1 : len(sys.orig_argv) - count]
    return (sys.executable, *words)


def own_arguments() -> tuple[str, ...]:
    """Return the arguments of this program, without those that a handover has added."""
    return without_handover(sys.argv[1:])


def without_handover(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return arguments without ``--handover`` and its value."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == HANDOVER:
            next(words, None)
        else:
            kept.append(word)
    return tuple(kept)


def document_file(content: bytes) -> int:
    """Put a document into an open file without a name, and return its number.

    Raises:
        OSError: there is no room for it, or no descriptor.
    """
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("qwenctl-handover")
    else:
        with tempfile.TemporaryFile() as file:
            number = os.dup(file.fileno())
    with os.fdopen(os.dup(number), "wb") as file:
        file.write(content)
    return number


def read_document(number: int) -> bytes:
    """Return the document in an open file, from its beginning.

    Raises:
        ControlError: there is no such open file.
    """
    try:
        return os.pread(number, os.fstat(number).st_size, 0)
    except OSError as error:
        raise ControlError(f"cannot take over: no state in open file {number}: {reason(error)}") from error


def check_command(program: Sequence[str], arguments: Sequence[str], document: int) -> tuple[str, ...]:
    """Return the command line that asks a program whether it can take over."""
    spoken = arguments if "--json" in arguments else ("--json", *arguments)
    return (*program, *spoken, CHECK, str(document))


async def preflight(command: Sequence[str], document: int, timeout_s: float = ANSWER_WITHIN_S) -> str:
    """Return the version of a program that says that it can take over.

    Raises:
        ControlError: it cannot, or does not say so; with its own words.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(document,),
            process_group=0,
        )
    except OSError as error:
        raise ControlError(f"cannot re-execute {command[0]}: {reason(error)}", HINT) from error
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await asyncio.gather(_read(process.stdout), _read(process.stderr))
            code = await process.wait()
    except TimeoutError as error:
        raise ControlError(
            f"cannot re-execute {command[0]}: it did not say within {timeout_s:g} s that it can take over",
            HINT,
        ) from error
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return judge(command[0], code, output, errors)


def judge(name: str, code: int, output: bytes, errors: bytes) -> str:
    """Return the version that a program's answer names. Pure.

    Raises:
        ControlError: the answer is no yes.
    """
    try:
        envelope = json.loads(output)
    except (ValueError, RecursionError):
        envelope = None
    answer = envelope if isinstance(envelope, dict) else {}
    data, error = answer.get("data"), answer.get("error")
    version = data.get("version") if isinstance(data, dict) else None
    if code == 0 and isinstance(version, str) and isinstance(data, dict) and data.get("takes_over") is True:
        return version
    said = error.get("message") if isinstance(error, dict) else None
    lines = [line for line in (errors or output).decode("utf-8", "replace").split("\n") if line.strip()]
    quote = str(said or (lines[-1].strip() if lines else "nothing"))[:300]
    ended = f"it ended with code {code}" if code else "it did not say that it can take over"
    raise ControlError(f"cannot re-execute {name}: {ended}, and said: {quote}", HINT)


def execute(command: Sequence[str], variables: Mapping[str, str], files: Iterable[int]) -> None:
    """Become another program, which inherits these open files. It does not return.

    ``variables`` are put back into the environment: they were taken out when this program started.

    Raises:
        OSError: the program cannot be executed; this one goes on.
    """
    kept = tuple(files)
    for each in kept:
        os.set_inheritable(each, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
    try:
        os.execve(command[0], list(command), os.environ | variables)  # noqa: S606 - that is the purpose
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)
        for each in kept:
            os.set_inheritable(each, False)


def take_signals() -> None:
    """Let the signals come that waited while no program handled them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    """Read a few words. A program that prints without end is held up, and ended when its time is over."""
    read = b""
    while stream is not None and len(read) < ANSWER_BYTES and (data := await stream.read(ANSWER_BYTES)):
        read += data
    return read
