"""Prove that a program is a llama-server that works here, before anything that serves is stopped.

1. ``--version`` and ``--help`` answer, and the flags that we use are known, or have another name.
2. ``--list-devices`` answers, and shows a device of the backend that is expected.
3. The tiny model is loaded, on a Unix socket in a folder of its own, and generates a token. Where the build
   uses a card, the card's own kernels compute it.

Each step has a limit of time. Nothing that was started is left. An engine that has passed is not asked again
until the engine or its devices change; one that has failed is, because a missing library may have come.
"""

import http.client
import json
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qwenctl.engine.ask import devices_of, engine_at, keep_answer
from qwenctl.engine.flags import Option, fit_to, words
from qwenctl.engine.other_programs import too_old
from qwenctl.engine.process import EngineProcess, started
from qwenctl.engine.program import Engine
from qwenctl.engine.tiny_model import CONTEXT, tiny_model
from qwenctl.engine.usability import OUT_OF_MEMORY, Attempt, Unusable, device_missing, why_unusable
from qwenctl.engine.used_flags import ALWAYS, missing
from qwenctl.files import read_json, reason
from qwenctl.hardware.device_list import backend_of
from qwenctl.hardware.facts import Device, DeviceList
from qwenctl.paths import SOCKET_PATH_BYTES

GENERATE_TIMEOUT_S = 120.0
"""A card's first start compiles kernels: over a minute has been seen with CUDA's own cache empty."""
ANSWER_BYTES = 1 << 20
PAUSE_S = 0.02
ON_CPU = Option("--device", "none")
CPU = "cpu"
REPLACED = {"-m", "-c", "--host", "--alias"}


@dataclass(frozen=True, slots=True)
class SmokeResult:
    """What came of it. ``unusable`` is None if it passed.

    ``engine`` and ``devices`` are known as far as it got. ``note``: what could not be proved, although it
    passed. ``remembered``: it had passed before.
    """

    unusable: Unusable | None
    engine: Engine | None = None
    devices: tuple[Device, ...] = ()
    note: str | None = None
    remembered: bool = False

    @property
    def passed(self) -> bool:
        """Whether the engine works here."""
        return self.unusable is None


def smoke_test(
    program: Path,
    cache: Path,
    *,
    expects: str | None = None,
    needed: tuple[Option, ...] = ALWAYS,
    on_cpu: bool = False,
    stopped: Callable[[], bool] = lambda: False,
    timeout_s: float = GENERATE_TIMEOUT_S,
) -> SmokeResult:
    """Return whether this llama-server works here.

    ``expects`` is the backend that must show a device: ``cuda``, ``vulkan``, …; ``cpu`` or None: none must.
    ``needed`` are the options that the engine must know. ``on_cpu``: no device is used, or looked for. Once
    ``stopped`` says so, it gives up soon.
    """
    engine = engine_at(program, cache)
    if isinstance(engine, Unusable):
        return SmokeResult(engine)
    if lacks := missing(needed, engine.known):
        return SmokeResult(too_old(lacks), engine)
    listed = DeviceList() if on_cpu else devices_of(program)
    if isinstance(listed, Unusable):
        return SmokeResult(listed, engine)
    devices = listed.devices
    if expects not in (None, CPU) and not any(backend_of(device) == expects for device in devices):
        return SmokeResult(device_missing(str(expects), listed.reason), engine, devices)
    passed = cache / "smoke" / f"{engine.identity.fingerprint}.json"
    shown: list[object] = [[device.id, device.description] for device in devices]
    if (read_json(passed) or {}).get("devices") == shown:
        return SmokeResult(None, engine, devices, remembered=True)
    unusable, note = _prove(
        engine, on_cpu=on_cpu, on_card=bool(devices), timeout_s=timeout_s, stopped=stopped
    )
    if unusable is None and note is None:
        keep_answer(passed, {"devices": shown})
    return SmokeResult(unusable, engine, devices, note)


def _prove(
    engine: Engine, *, on_cpu: bool, on_card: bool, timeout_s: float, stopped: Callable[[], bool]
) -> tuple[Unusable | None, str | None]:
    """Let it generate a token; on the CPU alone where the card is full, which says nothing of the build."""
    attempt = _generate(engine, (ON_CPU,) if on_cpu else (), timeout_s, stopped)
    if attempt is None:
        return None, None
    if on_card and OUT_OF_MEMORY.search(attempt.stderr + attempt.stdout):
        attempt = _generate(engine, (ON_CPU,), timeout_s, stopped)
        if attempt is None:
            return None, "not tried on the card: its memory is full"
    return why_unusable(attempt, "loading a tiny model"), None


def _generate(
    engine: Engine, more: tuple[Option, ...], timeout_s: float, stopped: Callable[[], bool]
) -> Attempt | None:
    """Return None once a token was generated, else what the program showed instead."""
    try:
        with tempfile.TemporaryDirectory(prefix="qwenctl-", dir=_short_folder()) as name:
            folder = Path(name)
            model, address = folder / "tiny.gguf", folder / "s.sock"
            model.write_bytes(tiny_model())
            options = (
                Option("-m", str(model)),
                *(option for option in ALWAYS if option.flag not in REPLACED),
                *more,
                Option("-c", str(CONTEXT)),
                Option("--host", str(address)),
            )
            command = (str(engine.path), *words(fit_to(options, engine.known, str(engine.path))))
            with started(command, folder) as running:
                return _wait_for_token(running, address, timeout_s, stopped)
    except OSError as error:
        return Attempt(errno=error.errno, stderr=reason(error))


def _wait_for_token(
    running: EngineProcess, address: Path, timeout_s: float, stopped: Callable[[], bool]
) -> Attempt | None:
    end = time.monotonic() + timeout_s
    while (left_s := end - time.monotonic()) > 0 and not stopped():
        if running.ended():
            break
        if _token(address, left_s):
            return None
        running.wait(PAUSE_S)
    return running.attempt()


def _token(address: Path, timeout_s: float) -> bool:
    """Return whether a token was generated. A server that still loads says no at once."""
    connection = _UnixConnection(str(address), timeout_s)
    body = json.dumps({"prompt": "Hi", "n_predict": 1})
    try:
        connection.request("POST", "/completion", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = json.loads(answer.read(ANSWER_BYTES))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return answer.status == http.client.OK and isinstance(content, dict) and "content" in content


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _short_folder() -> str | None:
    """Return where a socket's path is short enough; None is the usual place."""
    longest = len(tempfile.gettempdir()) + len("/qwenctl-xxxxxxxx/s.sock")
    return "/tmp" if longest > SOCKET_PATH_BYTES else None  # noqa: S108 - a private folder is made in it
