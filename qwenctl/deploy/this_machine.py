"""Find the engine and look at the machine, each as far as the other can use it."""

from dataclasses import replace
from pathlib import Path

from qwenctl import paths
from qwenctl.deploy.refused_engines import refused_engines
from qwenctl.engine.find import FoundEngine, Judge, find_engine
from qwenctl.engine.program import Engine
from qwenctl.engine.usability import Unusable, card_unused
from qwenctl.errors import NoServerError
from qwenctl.hardware.detect import SystemProbe, detect
from qwenctl.hardware.devices import unused_cards, usable
from qwenctl.hardware.facts import Device, Hardware, ServerFacts
from qwenctl.settings.types import Settings


def engine_and_machine(settings: Settings, folder: Path) -> tuple[Engine, Hardware]:
    """Return the first usable engine, and this machine as far as it can use it and the settings allow.

    An engine that has no device on the card of this machine is not usable: nothing is put on the processor
    in silence.

    Raises:
        NoServerError: there is no usable engine.
        DetectionError: the machine cannot be read.
        NoFitError, SettingsError: ``[hardware]`` asks for what is not there.
    """
    hardware = detect(SystemProbe.real())
    found = _find(settings, folder, judge_of(hardware, settings))
    return found.engine, usable(hardware, _facts(found.engine, found.devices), settings.hardware)


def judge_of(hardware: Hardware, settings: Settings) -> Judge:
    """Return what this machine says to an engine: whether it has a device on a card that is worth using."""

    def judge(engine: Engine, devices: tuple[Device, ...]) -> Unusable | None:
        if settings.server.rpc:
            return None  # the devices are other machines'
        unused = unused_cards(hardware, _facts(engine, devices), settings.hardware)
        return card_unused(tuple(card.name for card in unused), unused[0].backend) if unused else None

    return judge


def machine_without_engine(settings: Settings, missing: NoServerError) -> Hardware:
    """Return this machine as a usable engine could use it, with a warning that there is none.

    Raises:
        DetectionError, NoFitError, SettingsError: as ``engine_and_machine``.
    """
    return without_engine(usable(detect(SystemProbe.real()), None, settings.hardware), missing)


def without_engine(hardware: Hardware, missing: NoServerError) -> Hardware:
    """Return a machine with the warning that no engine is usable."""
    hint = f"; {missing.hint}" if missing.hint else ""
    warning = f"no usable llama-server here, so this is a plan only: {missing.message}{hint}"
    return replace(hardware, warnings=(warning, *hardware.warnings))


def engine_anywhere(settings: Settings, folder: Path) -> Engine:
    """Return the first usable engine, whatever card this machine has: the plan is for another one.

    Raises:
        NoServerError: there is no usable engine.
    """
    return _find(settings, folder, lambda _engine, _devices: None).engine


def _find(settings: Settings, folder: Path, judge: Judge) -> FoundEngine:
    engines, refused = paths.engines_dir(), refused_engines(folder)
    return find_engine(settings, paths.cache_dir(), engines, refused=refused, judge=judge)


def _facts(engine: Engine, devices: tuple[Device, ...]) -> ServerFacts:
    return ServerFacts(str(engine.path), engine.version, devices)
