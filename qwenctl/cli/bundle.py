"""Collect the texts of a support bundle. Only reads; every text is redacted."""

import contextlib
import getpass
import json
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from qwenctl import __version__, paths
from qwenctl.cli.doctor_checks import examine
from qwenctl.control.state_dir import CHILD, EVENTS, KEPT_FILES, LOGS, STATUS
from qwenctl.deploy import pipeline
from qwenctl.deploy.exact_plan import decide
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
STATE = (STATUS, CHILD, EVENTS, f"{EVENTS}.1", *KEPT_FILES)


def gather(request: PlanRequest) -> dict[str, str]:
    """Return the texts of the bundle by file name, redacted. A text that cannot be made says why."""
    private = _private(request)
    texts = {name: _attempt(make) for name, make in _writers(request)}
    found = {name: request.folder / name for name in STATE}
    found |= {name: paths.log_dir(request.folder) / name for name in LOGS if name not in found}
    texts |= {f"state/{name}": text for name, path in found.items() if (text := _tail(path))}
    config = request.config or paths.config_dir() / "config.toml"
    if text := _tail(config):
        texts["config.toml"] = text
    service = places.installed()
    for path in (service.service, service.socket) if service else ():
        if path is not None and (unit := installed_files.current(path)):
            texts[f"service/{path.name}"] = unit
    return {name: redact(text, private) for name, text in sorted(texts.items())}


def _writers(request: PlanRequest) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "versions.json", _versions
    yield "doctor.txt", lambda: "\n".join(map(_line, examine(request)))
    yield "hardware.json", lambda: to_text(pipeline.survey(pipeline.resolve(request)).hardware)
    yield "settings.json", lambda: _settings(pipeline.resolve(request))
    yield "plan.json", lambda: _plan(request)


def _versions() -> str:
    versions = {"qwenctl": __version__, "python": sys.version, "platform": platform.platform()}
    if sys.platform == "darwin":
        versions["macos"] = platform.mac_ver()[0]
    return json.dumps(versions, indent=1)


def _line(check: Check) -> str:
    return f"{check.verdict}\t{check.name}\t{check.finding}\t[{check.looked_at}]\t{check.fix or ''}"


def _settings(resolved: ResolvedSettings) -> str:
    rows = {
        key: {"value": value_of(resolved.settings, key), "origin": resolved.origins[key]}
        for key in known_keys()
    }
    return json.dumps(rows, indent=1)


def _plan(request: PlanRequest) -> str:
    resolved = pipeline.resolve(request)
    surveyed = pipeline.survey(resolved)
    resolved, plan = decide(resolved, surveyed)
    return json.dumps(to_json(plan, pipeline.command_line(resolved, surveyed, plan)), indent=1)


def _private(request: PlanRequest) -> Private:
    """Return what must not leave this machine. A key file that we cannot read is left out."""
    key_files: list[Path] = [Path.home() / ".cache/huggingface/token", paths.SYSTEM_CONFIG / "hf-token"]
    try:
        key_file = pipeline.resolve(request).settings.server.api_key_file
    except QwenctlError:
        key_file = None
    if key_file is not None:
        key_files.append(Path(key_file).expanduser())
    secrets = [key for path in key_files for key in parse_keys(installed_files.current(path) or "")]
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
