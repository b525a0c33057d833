"""Find the engine and look at the machine, each as far as the other can use it."""

from dataclasses import replace
from functools import partial

from qwenctl import paths
from qwenctl.deploy.refused_engines import refused_engines
from qwenctl.deploy.types import ResolvedSettings
from qwenctl.engine.architectures import knows
from qwenctl.engine.find import FoundEngine, Judge, find_engine
from qwenctl.engine.other_programs import architecture_unknown
from qwenctl.engine.program import Engine
from qwenctl.engine.usability import Unusable, card_unused
from qwenctl.errors import NoServerError
from qwenctl.hardware.detect import SystemProbe, detect
from qwenctl.hardware.devices import unused_cards, usable
from qwenctl.hardware.facts import DeviceList, Hardware, ServerFacts
from qwenctl.settings.types import Settings


def engine_and_machine(resolved: ResolvedSettings) -> tuple[Engine, Hardware]:
    """Return the first usable engine, and this machine as far as it can use it and the settings allow.

    An engine that has no device on the card of this machine is not usable: nothing is put on the processor
    in silence. One that does not know the model's architecture gives way to one that does.

    Raises:
        NoServerError: there is no usable engine.
        DetectionError: the machine cannot be read.
        NoFitError, SettingsError: ``[hardware]`` asks for what is not there.
    """
    settings, hardware = resolved.settings, detect(SystemProbe.real())
    found = _find(resolved, judge_of(hardware, settings))
    return found.engine, usable(hardware, _facts(found.engine, found.listed), settings.hardware)


def judge_of(hardware: Hardware, settings: Settings) -> Judge:
    """Return what this machine says to an engine: whether it has a device on a card that is worth using."""

    def judge(engine: Engine, listed: DeviceList) -> Unusable | None:
        if settings.server.rpc:
            return None  # the devices are other machines'
        unused = unused_cards(hardware, _facts(engine, listed), settings.hardware)
        if not unused:
            return None
        return card_unused(tuple(card.name for card in unused), unused[0].backend, listed.reason)

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


def engine_anywhere(resolved: ResolvedSettings) -> Engine:
    """Return the first usable engine, whatever card this machine has: the plan is for another one.

    Raises:
        NoServerError: there is no usable engine.
    """
    return _find(resolved, lambda _engine, _listed: None).engine


def _find(resolved: ResolvedSettings, judge: Judge) -> FoundEngine:
    """Find the first usable engine that knows the model; if none knows it, the first usable one."""
    settings, profile = resolved.settings, resolved.profile

    def knows_the_model(engine: Engine, listed: DeviceList) -> Unusable | None:
        if knows(engine.path, profile.architecture.name) is False:
            return architecture_unknown(profile.architecture.name)
        return judge(engine, listed)

    find = partial(
        find_engine,
        settings,
        paths.cache_dir(),
        paths.engines_dir(),
        refused=refused_engines(resolved.folder),
    )
    try:
        return find(judge=knows_the_model)
    except NoServerError as error:
        try:
            return find(judge=judge)
        except NoServerError:
            raise error from None


def _facts(engine: Engine, listed: DeviceList) -> ServerFacts:
    return ServerFacts(str(engine.path), engine.version, listed.devices, listed.reason)
