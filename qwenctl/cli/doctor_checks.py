"""Look at everything that can keep a server from running here. Errors become checks. Changes nothing."""

import grp
import os
import pwd
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from qwenctl import paths
from qwenctl.cli import via_service
from qwenctl.control.state_dir import CHILD, STATUS, read_status, running
from qwenctl.daemon.descriptors import raised
from qwenctl.deploy import model_file, pipeline
from qwenctl.deploy.exact_plan import decide
from qwenctl.deploy.free_address import check_address
from qwenctl.deploy.this_machine import engine_and_machine, engine_anywhere
from qwenctl.deploy.types import PlanRequest, ResolvedSettings, Surveyed
from qwenctl.engine.address import endpoint_address
from qwenctl.engine.ask import in_quarantine, list_devices
from qwenctl.engine.find import AUTO, searched
from qwenctl.engine.program import Engine
from qwenctl.errors import NoServerError, QwenctlError
from qwenctl.fetch.disk import allocated_bytes, free_bytes
from qwenctl.hardware.detect import SystemProbe, detect
from qwenctl.hardware.facts import Hardware
from qwenctl.hardware.macos import read_low_power_mode, read_memory_pressure
from qwenctl.plan.budget import reserved_ram
from qwenctl.plan.outcome import Plan
from qwenctl.service import diagnosis, linger, mac_diagnosis, places, wired_limit
from qwenctl.service.diagnosis import Check, Node
from qwenctl.service.install import is_current, service_of
from qwenctl.settings.types import Settings
from qwenctl.supervise.identity import left_over

DEVICES = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "dri/renderD*", "kfd")


def examine(request: PlanRequest) -> tuple[Check, ...]:
    """Return every check, in the order in which a fault would stop the server."""
    try:
        resolved = pipeline.resolve(request)
    except QwenctlError as error:
        name = str(request.config or paths.config_dir() / "config.toml")
        return (diagnosis.failed("settings", name, error.message, error.hint), *_around(None, request.folder))
    settings = Check("settings", str(resolved.config), f"valid, profile {resolved.profile.name}")
    return (settings, *_machine(resolved), *_around(resolved.settings, request.folder))


def _machine(resolved: ResolvedSettings) -> Iterator[Check]:
    """Look at the binary, the hardware, the plan and the command line."""
    server, check = _server(resolved)
    yield check
    try:
        hardware = detect(SystemProbe.real())
    except QwenctlError as error:
        yield diagnosis.failed("hardware", "this machine", error.message, error.hint)
        return
    if server is not None:
        yield _backend(server, resolved.settings, hardware)
    yield diagnosis.driver(hardware.warnings, hardware.os)
    if hardware.os == "darwin":
        yield from _mac(hardware, server)
    else:
        yield _visible()
    try:
        surveyed = pipeline.survey(resolved)
        resolved, plan = decide(resolved, surveyed)
    except QwenctlError as error:
        yield diagnosis.failed("plan", resolved.profile.name, error.message, error.hint)
        return
    planned = f"{plan.profile} {plan.quant}, {plan.context_tokens:,} tokens"
    yield diagnosis.fits(planned, plan.verdict, plan.fix)
    if surveyed.server is not None:
        yield _command_line(resolved, surveyed, plan, str(surveyed.server.path))
    if not model_file.is_local(resolved):
        path = model_file.model_path(resolved, plan)
        missing = max(sum(file.bytes for file in plan.files) - allocated_bytes(path.resolve()), 0)
        yield diagnosis.disk(str(path.parent), free_bytes(path), missing)


def _server(resolved: ResolvedSettings) -> tuple[Engine | None, Check]:
    binary = resolved.settings.server.binary
    where = searched(sys.platform) if binary == AUTO else binary
    try:
        try:
            server, _ = engine_and_machine(resolved)
        except NoServerError:
            raise
        except QwenctlError:  # of the machine or its settings: a later check says it
            server = engine_anywhere(resolved)
    except NoServerError as error:
        return None, diagnosis.failed("binary", where, error.message, error.hint)
    passed = server.identity.passed_over
    found = f"llama-server {server.version}, from {server.identity.place}"
    if not passed:
        return server, Check("binary", str(server.path), found)
    why = "; ".join(f"{one.path} of {one.place} is not used: {one.why}" for one in passed)
    return server, Check("binary", str(server.path), f"{found}; {why}", "note", passed[0].hint)


def _backend(server: Engine, settings: Settings, hardware: Hardware) -> Check:
    try:
        listed = list_devices(server.path, settings.server.rpc)
    except QwenctlError as error:
        return diagnosis.failed("backend", f"{server.path} --list-devices", error.message, error.hint)
    names = tuple(f"{device.id} ({device.description})" for device in listed.devices)
    have = tuple(f"{one.backend} {one.name}" for one in hardware.accelerators)
    return diagnosis.backend(str(server.path), names, have, listed.reason)


def _command_line(resolved: ResolvedSettings, surveyed: Surveyed, plan: Plan, binary: str) -> Check:
    """Make the command line that ``up`` would run."""
    try:
        pipeline.command_line(resolved, surveyed, plan)
    except QwenctlError as error:
        return diagnosis.failed("command line", binary, error.message, error.hint)
    return Check("command line", binary, "this llama-server knows every option")


def _mac(hardware: Hardware, server: Engine | None) -> Iterator[Check]:
    """Look at Metal's limit, and at the mark of a program that was downloaded."""
    for gpu in hardware.accelerators:
        if gpu.backend == "metal":
            most = hardware.ram_bytes - reserved_ram(hardware.ram_bytes)
            yield mac_diagnosis.metal_limit(gpu, hardware.ram_bytes, most, wired_limit.kept_mib())
    if server is not None:
        path = Path(server.path).resolve()
        yield mac_diagnosis.quarantine(str(server.path), str(path.parent), marked=in_quarantine(path))


def _visible() -> Check:
    """Check whether the user who runs the daemon may use the device files."""
    nodes = tuple(_node(path) for pattern in DEVICES for path in sorted(Path("/dev").glob(pattern)))
    name, uid, groups = _who()
    names = {one.gr_gid: one.gr_name for one in grp.getgrall()}
    return diagnosis.visible(nodes, name, uid, groups, names)


def _who() -> tuple[str, int, frozenset[int]]:
    service = places.installed()
    if service is not None and service.manager == "systemd" and service.scope == "system":
        try:
            one = pwd.getpwnam(places.SYSTEM_USER)
        except KeyError:
            pass
        else:
            more = {group.gr_gid for group in grp.getgrall() if group.gr_name in ("render", "video")}
            return one.pw_name, one.pw_uid, frozenset({*os.getgrouplist(one.pw_name, one.pw_gid), *more})
    return linger.user(), os.geteuid(), frozenset({*os.getgroups(), os.getegid()})


def _around(settings: Settings | None, folder: Path) -> Iterator[Check]:
    """Look at the port, the folders, the limits, the service and the last endings."""
    ours = running(folder) is not None
    if settings is not None:
        yield _port(settings, ours=ours)
    if not ours and (leftover := left_over(folder / CHILD)) is not None:
        yield diagnosis.left_over(str(folder / CHILD), leftover.pid, leftover.executable)
    uid = folder.stat().st_uid if paths.system_wide() and folder.exists() else os.geteuid()
    yield diagnosis.owned("state folder", _existing(folder), str(folder), uid, private=True)
    cache = paths.cache_dir()
    yield diagnosis.owned("cache folder", _existing(cache), str(cache), uid, private=False)
    yield diagnosis.files_limit(_limited(raised(*resource.getrlimit(resource.RLIMIT_NOFILE))))
    locking = settings is not None and any("mlock" in word for word in settings.server.extra_args)
    lockable = _limited(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0])
    yield diagnosis.memlock(lockable, wanted=locking, system=sys.platform)
    if sys.platform == "darwin":
        yield mac_diagnosis.memory_pressure(read_memory_pressure())
        yield mac_diagnosis.low_power_mode(on=read_low_power_mode())
        yield from mac_diagnosis.local_network(settings.server.rpc if settings is not None else ())
    else:
        memory = psutil.swap_memory()
        yield diagnosis.swap(memory.total, memory.percent)
    yield _service(settings)
    service = places.installed()
    if service is not None and service.manager == "systemd" and service.scope == "user":
        yield diagnosis.lingering(linger.user(), lingers=linger.lingers())
    yield diagnosis.endings(read_status(folder) if ours else None, STATUS)


def _port(settings: Settings, *, ours: bool) -> Check:
    where = endpoint_address(settings)
    looked = f"{where.host}:{where.port}"
    if ours or via_service.holds_port(where):
        return Check("port", looked, "held by our daemon or its service")
    try:
        check_address(where)
    except QwenctlError as error:
        return diagnosis.failed("port", looked, error.message, error.hint)
    return Check("port", looked, "free")


def _service(settings: Settings | None) -> Check:
    service = places.installed()
    if service is None:
        return Check("service", str(places.places(places.usual_scope()).service), "not installed")
    try:
        others = places.all_of_launchd() if service.manager == "launchd" else ()
        if len(others) > 1:
            both = ", ".join(str(one.service) for one in others)
            cure = "brew services stop qwenctl, or qwenctl service uninstall: keep one"
            return Check("service", both, "two services fight for the same folders", "problem", cure)
        seen = service_of(service).look()
        current = settings is None or is_current(service, settings)
    except QwenctlError as error:
        return diagnosis.failed("service", str(service.service), error.message, error.hint)
    state = seen.words
    if seen.fault is not None:
        cure = "qwenctl service status; then qwenctl up"
        return Check("service", str(service.service), state, "problem", cure)
    if not current:
        cure = "run qwenctl service install to update the file"
        return Check(
            "service",
            str(service.service),
            f"{state}; its file differs from what qwenctl service install would write",
            "note",
            cure,
        )
    return Check("service", str(service.service), state)


def _limited(limit: int) -> int:
    """Return a limit of this process; -1 is none, whatever number the system has for that."""
    return -1 if limit == resource.RLIM_INFINITY else limit


def _existing(path: Path) -> Node | None:
    return _node(path) if path.exists() else None


def _node(path: Path) -> Node:
    stat = path.stat()
    return Node(str(path), stat.st_mode, stat.st_uid, stat.st_gid)
