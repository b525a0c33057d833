"""Lead from what a person wants to what is started: settings, profile, hardware, plan, spec.

Each step is its own function, so that a command stops where it needs to. Everything here can be done
while an older server still answers; nothing here starts or stops one.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from qwenctl import paths
from qwenctl.control.state_dir import CHILD_SOCKET, read_overrides
from qwenctl.deploy.exact_plan import decide
from qwenctl.deploy.load_record import load_key, remembered_loads
from qwenctl.deploy.model_file import model_path
from qwenctl.deploy.named_model import named_profile, settings_of, stamp_of
from qwenctl.deploy.oom_record import key, model_key, remembered
from qwenctl.deploy.this_machine import (
    engine_and_machine,
    engine_anywhere,
    machine_without_engine,
    without_engine,
)
from qwenctl.deploy.types import Draft, PlanRequest, ResolvedSettings, Surveyed
from qwenctl.engine.address import Address, endpoint_address
from qwenctl.engine.architectures import knows
from qwenctl.engine.ask import ask_server
from qwenctl.engine.find import AUTO
from qwenctl.engine.program import Engine
from qwenctl.errors import NoServerError
from qwenctl.hardware.devices import usable
from qwenctl.hardware.facts import Hardware
from qwenctl.hardware.saved import read_machine
from qwenctl.launch.argv import Launch, argv
from qwenctl.launch.configuration import Configuration
from qwenctl.launch.spec import LaunchSpec
from qwenctl.model.profile import Profile
from qwenctl.model.toml import load_profile
from qwenctl.plan.outcome import MemoryRefusal, Plan
from qwenctl.plan.planner import find_quant
from qwenctl.settings.load import LoadedSettings, load, merge, read_file
from qwenctl.settings.types import Settings

SAVING_S, CLOSING_S = 60.0, 5.0
"""What saving the slots may take after the drain, and what closing the connections may take."""
SHOW_SLOTS = (("LLAMA_SERVER_SLOTS_DEBUG", "1"),)
"""Lets ``GET /slots`` show the text of a slot, for saving it. Source: llama.cpp, tools/server."""


def resolve(request: PlanRequest) -> ResolvedSettings:
    """Return the settings and the profile.

    Raises:
        SettingsError, ProfileError: one of them is wrong, or the quant unknown; the message says where.
        FetchError: the file that they name cannot be used.
    """
    layered = _layers(request)
    resolved = _resolved(request, layered, named_profile(layered({}), update=request.update))
    if resolved.settings.model.quant != "auto":
        find_quant(resolved.profile, resolved.settings.model.quant)
    return resolved


def resolve_without_model(request: PlanRequest) -> ResolvedSettings:
    """Return the settings and the named profile, for whoever needs no model: the file may be gone by now.

    Raises:
        SettingsError, ProfileError: as ``resolve``.
    """
    layered = _layers(request)
    shipped, own = paths.data_root() / "profiles", paths.config_dir() / "profiles"
    return _resolved(request, layered, load_profile(layered({}).settings.profile, shipped, own))


Layered = Callable[[Mapping[str, object]], LoadedSettings]


def _layers(request: PlanRequest) -> Layered:
    """Return what the layers say of every setting, once the profile's own is given."""
    file = read_file(config_path(request), required=request.config is not None)
    up = read_overrides(request.folder) if request.overrides is None else request.overrides
    return lambda profile: load(flags=request.flags, up=up, file=file, profile=profile)


def _resolved(request: PlanRequest, layered: Layered, profile: Profile) -> ResolvedSettings:
    preset = layered(profile.settings).settings.sampling.preset
    drawn = profile.sampling[preset].model_dump(exclude={"source"})
    loaded = layered(merge(profile.settings, {"sampling": drawn}))
    settings = settings_of(loaded.settings, profile)
    return ResolvedSettings(settings, loaded.origins, profile, config_path(request), request.folder)


def config_path(request: PlanRequest) -> Path:
    """Return the file of the settings."""
    return request.config or paths.config_dir() / "config.toml"


def survey(resolved: ResolvedSettings, machine: Path | None = None) -> Surveyed:
    """Look at this machine and at the binary; or at the machine saved in ``machine`` alone.

    Raises:
        DetectionError: the machine cannot be read.
        NoServerError: the binary that is named cannot be used.
        NoFitError, SettingsError: ``[hardware]`` asks for what is not there.
    """
    settings = resolved.settings
    server = None
    other = usable(read_machine(machine), None, settings.hardware) if machine is not None else None
    try:
        if other is not None:
            hardware, server = other, engine_anywhere(resolved)
        else:
            server, hardware = engine_and_machine(resolved)
    except NoServerError as error:
        if settings.server.binary != AUTO:
            raise
        hardware = machine_without_engine(settings, error) if other is None else without_engine(other, error)
    return _surveyed(resolved, hardware, server)


def prepare(request: PlanRequest) -> Draft:
    """Return the plan for this machine and the binary that will run it.

    Raises:
        NoFitError: nothing fits.
        NoServerError: there is no usable binary.
        SettingsError, ProfileError, DetectionError: what was given is wrong.
    """
    return draft(resolve(request), request.refused)


def draft(resolved: ResolvedSettings, refused: frozenset[MemoryRefusal] = frozenset()) -> Draft:
    """Return the plan of these settings for this machine. ``refused``: beside what is kept in the folder.

    Raises:
        NoFitError, NoServerError, SettingsError, DetectionError: as ``prepare``.
    """
    server, hardware = engine_and_machine(resolved)
    surveyed = _surveyed(resolved, hardware, server, refused)
    resolved, chosen = decide(resolved, surveyed)
    return Draft(resolved, hardware, server, chosen)


def _surveyed(
    resolved: ResolvedSettings,
    hardware: Hardware,
    server: Engine | None,
    refused: frozenset[MemoryRefusal] = frozenset(),
) -> Surveyed:
    if server is not None:
        _check_architecture(resolved, server)
    model = model_key(resolved.profile, resolved.settings.model.path)
    kept = remembered(resolved.folder, key(hardware, model, server))
    loads = load_key(hardware, resolved.profile, resolved.settings, server)
    return Surveyed(hardware, server, refused | kept, remembered_loads(resolved.folder, loads))


def _check_architecture(resolved: ResolvedSettings, server: Engine) -> None:
    name = resolved.profile.architecture.name
    if knows(server.path, name) is False:
        raise NoServerError(
            f"cannot serve {resolved.profile.title}: {server.path} ({server.version}) does not know the "
            f"architecture {name!r}",
            hint="install a newer llama.cpp",
        )


def spec(prepared: Draft, model: Path) -> LaunchSpec:
    """Return what the supervisor is to run.

    Raises:
        LaunchError: the binary does not know a flag.
        SettingsError: extra_args override what qwenctl owns.
    """
    settings, server = prepared.resolved.settings, prepared.server
    launch = _launch(prepared.resolved, str(server.path), model, prepared.hardware, prepared.plan)
    return LaunchSpec(
        argv=argv(launch, prepared.plan, settings, server.known),
        address=launch.address,
        environment=SHOW_SLOTS if launch.slots else (),
        key_file=launch.key_file,
        model_stamp=stamp_of(model) if settings.model.path is not None else None,
        engine=server.identity.fingerprint,
        devices=prepared.plan.devices,
        ready_timeout_s=settings.supervise.ready_timeout_s,
        stop_timeout_s=settings.supervise.stop_timeout_s,
        drain_timeout_s=drain_timeout_s(settings),
        wedge_after_s=settings.supervise.wedge_after_s,
        on_oom=settings.supervise.on_oom,
    )


def configuration(prepared: Draft, model: Path) -> Configuration:
    """Return the configuration that serves ``model`` as it was planned.

    Raises:
        LaunchError, SettingsError: as ``spec``.
    """
    return Configuration(
        settings=prepared.resolved.settings,
        profile=prepared.resolved.profile,
        plan=prepared.plan,
        hardware=prepared.hardware,
        engine=prepared.server.identity,
        model_file=model,
        spec=spec(prepared, model),
    )


def smaller(than: Configuration, folder: Path, refused: frozenset[MemoryRefusal]) -> Draft:
    """Return the next plan from the settings of a configuration that ran out of memory.

    No file of settings or profiles is read: they may say something else by now.

    Raises:
        NoFitError: nothing smaller fits.
        NoServerError: the engine is gone.
    """
    resolved = ResolvedSettings(than.settings, {}, than.profile, paths.config_dir() / "config.toml", folder)
    asked = ask_server(than.engine.path, paths.cache_dir())
    now = replace(than.engine, version=asked.version, fingerprint=asked.identity.fingerprint)
    engine = replace(asked, identity=now)
    surveyed = _surveyed(resolved, than.hardware, engine, refused)
    resolved, chosen = decide(resolved, surveyed)
    return Draft(resolved, than.hardware, engine, chosen)


def drain_timeout_s(settings: Settings) -> float:
    """Return how long a wanted stop may wait for the gate: the answers in flight, then the saving."""
    gate = settings.gate
    if not gate.enabled:
        return 0.0
    return gate.drain_timeout_s + (SAVING_S if gate.warm else CLOSING_S)


def command_line(resolved: ResolvedSettings, surveyed: Surveyed, chosen: Plan) -> tuple[str, ...]:
    """Return the command line for a plan, unchecked where no binary is installed.

    Raises:
        LaunchError, SettingsError: as ``spec``.
    """
    settings, server = resolved.settings, surveyed.server
    binary = str(server.path) if server else "llama-server"
    launch = _launch(resolved, binary, model_path(resolved, chosen), surveyed.hardware, chosen)
    return argv(launch, chosen, settings, server.known if server else None)


def _launch(resolved: ResolvedSettings, binary: str, model: Path, hardware: Hardware, chosen: Plan) -> Launch:
    """Return what the plan does not know. Behind the gate the server has a socket, and no keys of its own.

    There it can save its slots at any time, so that the gate may begin with that without another server.
    """
    settings, thinking = resolved.settings, resolved.profile.thinking
    gate, devices = settings.gate, _devices(settings, hardware, chosen)
    if not gate.enabled:
        keys = settings.server.api_key_file
        key_file = str(Path(keys).expanduser()) if keys is not None else None
        where = endpoint_address(settings)
        return Launch(binary, str(model), where, devices, key_file, thinking=thinking)
    where = Address(str(paths.socket_path(paths.state_dir(), CHILD_SOCKET)), None)
    return Launch(binary, str(model), where, devices, slots=str(slots_dir()), thinking=thinking)


def slots_dir() -> Path:
    """Return the folder of the slots that outlive a restart."""
    return paths.state_dir() / "warm"


def _devices(settings: Settings, hardware: Hardware, chosen: Plan) -> tuple[str, ...] | None:
    """Return the devices to name to the server, where it would take others than the plan does."""
    if settings.hardware.gpu == "off":
        return ()
    if hardware.excluded:
        return chosen.devices
    narrowed = settings.hardware.devices or len(chosen.devices) < len(hardware.accelerators)
    return chosen.devices if narrowed and chosen.devices else None
