"""Lead from what a person wants to what is started: settings, profile, hardware, plan, file, spec.

Each step is its own function, so that a command stops where it needs to. Everything here can be done
while an older server still answers; nothing here starts or stops one.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qwenctl import paths
from qwenctl.control.folder import CHILD_SOCKET, read_overrides
from qwenctl.control.refusals import key, remembered
from qwenctl.demo.model import make_model
from qwenctl.errors import FetchError, LaunchError, NoFitError, NoServerError
from qwenctl.fetch.artifact import fetch
from qwenctl.fetch.expected import expected_path
from qwenctl.fetch.local import local_artifact
from qwenctl.fetch.preview import newer_commit
from qwenctl.fetch.record import read_records
from qwenctl.fetch.request import Progress, request_for
from qwenctl.hardware.detect import Probe, detect
from qwenctl.hardware.devices import parse_devices, reserve, usable
from qwenctl.hardware.facts import Hardware, ServerFacts
from qwenctl.hardware.saved import read_machine
from qwenctl.launch.argv import Launch, argv
from qwenctl.launch.binary import Server, ask_server, find_server, list_devices
from qwenctl.launch.spec import Address, LaunchSpec
from qwenctl.plan.load import load_profile, load_profiles
from qwenctl.plan.planner import NoFit, Plan, Refused, find_quant, plan
from qwenctl.plan.profile import Profile, Quant
from qwenctl.plan.wire import no_fit_to_json
from qwenctl.settings.load import Loaded, load, merge, read_file
from qwenctl.settings.types import Settings
from qwenctl.supervise.identity import listener

SHOW_SLOTS = (("LLAMA_SERVER_SLOTS_DEBUG", "1"),)
"""Lets ``GET /slots`` show the text of a slot, for saving it. Source: llama.cpp, tools/server."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a command was told: flags by dotted tables, another config file, the state folder."""

    folder: Path
    flags: Mapping[str, object] = field(default_factory=dict)
    config: Path | None = None
    overrides: Mapping[str, object] | None = None  # None: those kept in the folder
    refused: frozenset[Refused] = frozenset()  # beside those kept in the folder


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings with their origins, and the profile they name."""

    settings: Settings
    origins: dict[str, str]
    profile: Profile
    config: Path
    folder: Path


@dataclass(frozen=True, slots=True)
class Surveyed:
    """The machine as far as it may be planned for, the binary, if there is one, and what memory refused."""

    hardware: Hardware
    server: Server | None
    refused: frozenset[Refused] = frozenset()


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything short of the file itself."""

    resolved: Resolved
    hardware: Hardware
    server: Server
    plan: Plan


def resolve(request: Request) -> Resolved:
    """Return the settings and the profile.

    Raises:
        SettingsError, ProfileError: one of them is wrong, or the quant unknown; the message says where.
    """
    config = request.config or paths.config_dir() / "config.toml"
    file = read_file(config, required=request.config is not None)
    up = read_overrides(request.folder) if request.overrides is None else request.overrides

    def layered(profile: Mapping[str, object]) -> Loaded:
        return load(flags=request.flags, up=up, file=file, profile=profile)

    name = layered({}).settings.profile
    profile = load_profile(name, paths.data_root() / "profiles", paths.config_dir() / "profiles")
    preset = layered(profile.settings).settings.sampling.preset
    drawn = profile.sampling[preset].model_dump(exclude={"source"})
    loaded = layered(merge(profile.settings, {"sampling": drawn}))
    if loaded.settings.model.quant != "auto":
        find_quant(profile, loaded.settings.model.quant)
    return Resolved(loaded.settings, loaded.origins, profile, config, request.folder)


def survey(resolved: Resolved, machine: Path | None = None) -> Surveyed:
    """Look at this machine and at the binary; or at the machine saved in ``machine`` alone.

    Raises:
        DetectionError: the machine cannot be read.
        NoServerError: the binary that is named cannot be used.
        NoFitError, SettingsError: ``[hardware]`` asks for what is not there.
    """
    settings = resolved.settings
    try:
        server = ask_server(find_server(settings.server.binary), paths.cache_dir())
    except NoServerError:
        if settings.server.binary != "auto":
            raise
        server = None
    if machine is not None:
        return _surveyed(resolved, usable(read_machine(machine), None, settings.hardware), server)
    return _surveyed(resolved, _this_machine(settings, server), server)


def prepare(request: Request) -> Prepared:
    """Return the plan for this machine and the binary that will run it.

    Raises:
        NoFitError: nothing fits.
        NoServerError: there is no usable binary.
        SettingsError, ProfileError, DetectionError: what was given is wrong.
    """
    resolved = resolve(request)
    server = ask_server(find_server(resolved.settings.server.binary), paths.cache_dir())
    hardware = _this_machine(resolved.settings, server)
    surveyed = _surveyed(resolved, hardware, server, request.refused)
    return Prepared(resolved, hardware, server, choose(resolved, surveyed))


def _surveyed(
    resolved: Resolved,
    hardware: Hardware,
    server: Server | None,
    refused: frozenset[Refused] = frozenset(),
) -> Surveyed:
    kept = remembered(resolved.folder, key(hardware, resolved.profile.name, server))
    return Surveyed(hardware, server, refused | kept)


def _this_machine(settings: Settings, server: Server | None) -> Hardware:
    """Return this machine, as far as the binary can use it and the settings allow."""
    facts = None
    if server is not None:
        devices = parse_devices(list_devices(server.path, settings.server.rpc))
        facts = ServerFacts(str(server.path), server.version, devices)
    return usable(detect(Probe.real()), facts, settings.hardware)


def choose(resolved: Resolved, surveyed: Surveyed) -> Plan:
    """Return the plan, none of what memory ran out for before.

    Raises:
        NoFitError: nothing fits.
    """
    profile, settings = resolved.profile, resolved.settings
    hardware, refused = reserve(surveyed.hardware, settings.hardware.reserve_mib), surveyed.refused
    chosen = plan(hardware, profile, settings, refused=refused)
    if isinstance(chosen, NoFit):
        siblings = load_profiles(paths.data_root() / "profiles", paths.config_dir() / "profiles")
        chosen = plan(hardware, profile, settings, siblings=siblings, refused=refused)
    if isinstance(chosen, NoFit):
        error = NoFitError(f"cannot plan {chosen.profile}: {chosen.reason}", hint=chosen.hint)
        error.data = no_fit_to_json(chosen)
        raise error
    return chosen


def model_path(resolved: Resolved, chosen: Plan) -> Path:
    """Return where the model file is, or will be once it is fetched."""
    if resolved.settings.model.path is not None:
        return Path(resolved.settings.model.path).expanduser().absolute()
    wanted = request_for(resolved.profile, _quant(resolved, chosen), resolved.settings)
    if wanted is None:
        return paths.cache_dir() / "demo" / chosen.files[0].name
    return expected_path(wanted, paths.state_dir())


def is_local(resolved: Resolved) -> bool:
    """Return whether the model needs no hub: made here, or named by path."""
    return resolved.profile.generated or resolved.settings.model.path is not None


def obtain_local(prepared: Prepared) -> Path:
    """Return the model file of a plan that needs no hub, made if it is to be made, and checked.

    Raises:
        FetchError: it is missing, no whole GGUF, or of another architecture.
        LaunchError: it cannot be made.
    """
    return make_local(prepared.resolved, model_path(prepared.resolved, prepared.plan))


def make_local(resolved: Resolved, path: Path) -> Path:
    """Return ``path`` once it is a whole model of the profile's architecture; make it if it can be made.

    Raises:
        FetchError, LaunchError: as ``obtain_local``.
    """
    if resolved.settings.model.path is None and resolved.profile.generated:
        make_model(path, resolved.profile.architecture)
    return local_artifact(path, resolved.profile.architecture.name).path


async def obtain(prepared: Prepared, on_progress: Callable[[Progress], None]) -> Path:
    """Return the verified model file, fetched if need be.

    Raises:
        FetchError: it cannot be had; what has arrived is kept.
        LaunchError: it cannot be made.
    """
    resolved = prepared.resolved
    quant = _quant(resolved, prepared.plan)
    wanted = None if is_local(resolved) else request_for(resolved.profile, quant, resolved.settings)
    if wanted is None:
        return await asyncio.to_thread(obtain_local, prepared)
    return (await fetch(wanted, on_progress, state_dir=paths.state_dir())).path


async def newer(prepared: Prepared) -> str | None:
    """Return the commit that ``fetch --update`` would move to; None if there is none, or nobody to ask."""
    resolved = prepared.resolved
    wanted = request_for(resolved.profile, _quant(resolved, prepared.plan), resolved.settings)
    if wanted is None or is_local(resolved):
        return None
    used = read_records(paths.state_dir()).find(wanted)
    try:
        return await newer_commit(wanted, used.commit) if used is not None else None
    except FetchError:
        return None  # asked again tomorrow


def _quant(resolved: Resolved, chosen: Plan) -> Quant:
    return find_quant(resolved.profile, chosen.quant)


def spec(prepared: Prepared, model: Path) -> LaunchSpec:
    """Return what the supervisor is to run.

    Raises:
        LaunchError: the binary does not know a flag.
        SettingsError: extra_args override what qwenctl owns.
    """
    settings, server = prepared.resolved.settings, prepared.server
    launch = _launch(settings, str(server.path), model, prepared.hardware, prepared.plan)
    return LaunchSpec(
        argv=argv(launch, prepared.plan, settings, server.known),
        address=launch.address,
        environment=SHOW_SLOTS if launch.slots else (),
        key_file=launch.key_file,
        ready_timeout_s=settings.supervise.ready_timeout_s,
        stop_timeout_s=settings.supervise.stop_timeout_s,
    )


def command_line(resolved: Resolved, surveyed: Surveyed, chosen: Plan) -> tuple[str, ...]:
    """Return the command line for a plan, unchecked where no binary is installed.

    Raises:
        LaunchError, SettingsError: as ``spec``.
    """
    settings, server = resolved.settings, surveyed.server
    binary = str(server.path) if server else "llama-server"
    launch = _launch(settings, binary, model_path(resolved, chosen), surveyed.hardware, chosen)
    return argv(launch, chosen, settings, server.known if server else None)


def _launch(settings: Settings, binary: str, model: Path, hardware: Hardware, chosen: Plan) -> Launch:
    """Return what the plan does not know. Behind the gate the server has a socket, and no keys of its own."""
    gate, devices = settings.gate, _devices(settings, hardware, chosen)
    if not gate.enabled:
        keys = settings.server.api_key_file
        key_file = str(Path(keys).expanduser()) if keys is not None else None
        return Launch(binary, str(model), address(settings), devices, key_file)
    where = Address(str(paths.socket_path(paths.state_dir(), CHILD_SOCKET)), None)
    return Launch(binary, str(model), where, devices, slots=str(slots_dir()) if gate.warm else None)


def address(settings: Settings) -> Address:
    """Return where the endpoint listens."""
    return Address(settings.server.host, settings.server.port)


def slots_dir() -> Path:
    """Return the folder of the slots that outlive a restart."""
    return paths.state_dir() / "warm"


def _devices(settings: Settings, hardware: Hardware, chosen: Plan) -> tuple[str, ...] | None:
    """Return the devices to name to the server, where it would take others than the plan does."""
    if settings.hardware.gpu == "off":
        return ()
    narrowed = settings.hardware.devices or len(chosen.devices) < len(hardware.accelerators)
    return chosen.devices if narrowed and chosen.devices else None


def check_address(where: Address) -> None:
    """Check that nothing else listens there.

    Raises:
        LaunchError: the address is taken, or not this machine's.
    """
    if where.port is None:
        return
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((where.host, where.port))
    except OSError as error:
        raise cannot_listen(where, error) from error


def cannot_listen(where: Address, error: OSError) -> LaunchError:
    """Return the error for an address that cannot be had, with the name of who has it."""
    reason = (error.strerror or str(error)).lower()
    if error.errno == errno.EADDRINUSE and where.port and (holder := listener(where.host, where.port)):
        reason = f"{reason}, by {holder}"
    return LaunchError(
        f"cannot listen on {where.host}:{where.port}: {reason}", hint="qwenctl up --port N uses another port"
    )
