"""Lead from what a person wants to what is started: settings, profile, hardware, plan, file, spec.

Each step is its own function, so that a command stops where it needs to. Everything here can be done
while an older server still answers; nothing here starts or stops one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qwenctl import paths
from qwenctl.control.folder import read_overrides
from qwenctl.demo.model import make_model
from qwenctl.errors import NoFitError
from qwenctl.hardware.detect import detect
from qwenctl.hardware.facts import Hardware, ServerFacts
from qwenctl.hardware.saved import read_machine
from qwenctl.launch.argv import argv
from qwenctl.launch.binary import Server, ask_server, check_model, find_server
from qwenctl.launch.spec import Address, LaunchSpec
from qwenctl.plan.load import load_profile
from qwenctl.plan.planner import NoFit, Plan, plan
from qwenctl.plan.profile import Profile
from qwenctl.settings.load import Loaded, load, merge, read_file
from qwenctl.settings.types import Settings


@dataclass(frozen=True, slots=True)
class Request:
    """What a command was told: flags by dotted tables, another config file, the state folder."""

    folder: Path
    flags: Mapping[str, object] = field(default_factory=dict)
    config: Path | None = None
    overrides: Mapping[str, object] | None = None  # None: those kept in the folder


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings with their origins, and the profile they name."""

    settings: Settings
    origins: dict[str, str]
    profile: Profile
    config: Path


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
        SettingsError, ProfileError: one of them is wrong; the message says where.
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
    return Resolved(loaded.settings, loaded.origins, profile, config)


def prepare(request: Request, machine: Path | None = None) -> Prepared:
    """Return the plan for this machine (or the one in ``machine``) and the binary that will run it.

    Raises:
        NoFitError: nothing fits.
        NoServerError: there is no usable binary.
        SettingsError, ProfileError, DetectionError: what was given is wrong.
    """
    resolved = resolve(request)
    hardware = read_machine(machine) if machine else detect()
    server = ask_server(find_server(resolved.settings.server.binary), paths.cache_dir())
    facts = ServerFacts(str(server.path), server.version)
    chosen = choose(resolved, hardware, facts)
    return Prepared(resolved, hardware, server, chosen)


def choose(resolved: Resolved, hardware: Hardware, server: ServerFacts | None) -> Plan:
    """Return the plan.

    Raises:
        NoFitError: nothing fits.
    """
    chosen = plan(hardware, resolved.profile, resolved.settings, server)
    if isinstance(chosen, NoFit):
        raise NoFitError(f"cannot plan {chosen.profile}: {chosen.reason}", hint=chosen.hint)
    return chosen


def model_path(resolved: Resolved, chosen: Plan) -> Path:
    """Return where the model file is, or will be once it is fetched."""
    if resolved.settings.model.path is not None:
        return Path(resolved.settings.model.path).expanduser().absolute()
    if resolved.profile.generated:
        return paths.cache_dir() / "demo" / chosen.files[0].name
    raise NotImplementedError


def obtain(prepared: Prepared) -> Path:
    """Make sure the model file is there and looks like one; return its path.

    Raises:
        LaunchError: it is missing or no GGUF.
    """
    path = model_path(prepared.resolved, prepared.plan)
    if prepared.resolved.profile.generated and prepared.resolved.settings.model.path is None:
        make_model(path, prepared.resolved.profile.architecture)
    check_model(path)
    return path


def spec(prepared: Prepared, model: Path) -> LaunchSpec:
    """Return what the supervisor is to run.

    Raises:
        LaunchError: the binary does not know a flag.
        SettingsError: extra_args override what qwenctl owns.
    """
    settings = prepared.resolved.settings
    address = Address(settings.server.host, settings.server.port)
    server = prepared.server
    return LaunchSpec(
        argv=argv(server.path, prepared.plan, settings, model, address, server.known),
        address=address,
        key_file=settings.server.api_key_file,
        ready_timeout_s=settings.supervise.ready_timeout_s,
        stop_timeout_s=settings.supervise.stop_timeout_s,
    )
