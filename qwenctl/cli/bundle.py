"""Put together what a bug report needs. Reads; every text goes through ``redact`` before it is kept."""

import contextlib
import getpass
import json
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from qwenctl import __version__, paths
from qwenctl.cli.doctor_checks import examine
from qwenctl.control.state_dir import CHILD, KEPT_FILES, LOGS, STATUS
from qwenctl.deploy import pipeline
from qwenctl.deploy.types import PlanRequest, ResolvedSettings
from qwenctl.errors import QwenctlError
from qwenctl.hardware.saved import to_text
from qwenctl.plan.wire import to_json
from qwenctl.service import installed_files, places
from qwenctl.service.diagnosis import Check
from qwenctl.service.redact import Private, redact
from qwenctl.settings.key_file import parse_keys
from qwenctl.settings.load import api_keys, known_keys, value_of

TAIL_BYTES = 512 << 10
STATE = (STATUS, CHILD, *LOGS, *KEPT_FILES)


def gather(asked: PlanRequest) -> dict[str, str]:
    """Return the files of the bundle by name, redacted. What fails to be made says why."""
    private = _private(asked)
    made = {name: _attempt(make) for name, make in _made(asked)}
    made |= {f"state/{name}": text for name in STATE if (text := _tail(asked.folder / name))}
    config = asked.config or paths.config_dir() / "config.toml"
    if text := _tail(config):
        made["config.toml"] = text
    installed = places.installed()
    for path in (installed.service, installed.socket) if installed else ():
        if path is not None and (unit := installed_files.current(path)):
            made[f"service/{path.name}"] = unit
    return {name: redact(text, private) for name, text in sorted(made.items())}


def _made(asked: PlanRequest) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "versions.json", _versions
    yield "doctor.txt", lambda: "\n".join(map(_told, examine(asked)))
    yield "hardware.json", lambda: to_text(pipeline.survey(pipeline.resolve(asked)).hardware)
    yield "settings.json", lambda: _settings(pipeline.resolve(asked))
    yield "plan.json", lambda: _plan(asked)


def _versions() -> str:
    known = {"qwenctl": __version__, "python": sys.version, "system": platform.platform()}
    return json.dumps(known, indent=1)


def _told(check: Check) -> str:
    return f"{check.verdict}\t{check.name}\t{check.finding}\t[{check.looked_at}]\t{check.fix or ''}"


def _settings(resolved: ResolvedSettings) -> str:
    rows = {
        key: {"value": value_of(resolved.settings, key), "origin": resolved.origins[key]}
        for key in known_keys()
    }
    return json.dumps(rows, indent=1)


def _plan(asked: PlanRequest) -> str:
    resolved = pipeline.resolve(asked)
    surveyed = pipeline.survey(resolved)
    chosen = pipeline.choose(resolved, surveyed)
    return json.dumps(to_json(chosen, pipeline.command_line(resolved, surveyed, chosen)), indent=1)


def _private(asked: PlanRequest) -> Private:
    """Return what must not be told. Keys that cannot be read cannot be in a log we can read either."""
    named: list[Path] = [Path.home() / ".cache/huggingface/token", paths.SYSTEM_CONFIG / "hf-token"]
    try:
        key_file = pipeline.resolve(asked).settings.server.api_key_file
    except QwenctlError:
        key_file = None
    if key_file is not None:
        named.append(Path(key_file).expanduser())
    secrets = [key for path in named for key in parse_keys(installed_files.current(path) or "")]
    with contextlib.suppress(QwenctlError):
        secrets += api_keys()
    return Private(tuple(secrets), getpass.getuser(), str(Path.home()))


def _attempt(make: Callable[[], str]) -> str:
    try:
        return make()
    except QwenctlError as error:
        return f"{error.message}\nhint: {error.hint}"


def _tail(path: Path) -> str:
    """Return the end of a file, from the start of a line; nothing if it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - TAIL_BYTES, 0))
            data = file.read()
    except OSError:
        return ""
    text = data.decode("utf-8", errors="replace")
    return text.partition("\n")[2] if size > TAIL_BYTES else text
