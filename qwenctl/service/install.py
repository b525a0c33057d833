"""Render the files of a service for this machine, and choose the service manager that installs them."""

import grp
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from qwenctl import paths
from qwenctl.control.state_dir import DAEMON_LOG, LAUNCHD_LOG
from qwenctl.errors import ControlError
from qwenctl.service import command, installed_files, plists, units
from qwenctl.service.launchd import Launchd
from qwenctl.service.places import Places, owner
from qwenctl.service.service_state import ServiceState
from qwenctl.service.systemd import Systemd
from qwenctl.settings.types import Settings

CARRIED = (
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_ENDPOINT",
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "PYTHONPATH",
)
"""Variables that a service takes over from the shell that installs it: folders and proxies. No secrets."""
SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
GPU_GROUPS = ("render", "video")
PROGRAM = (sys.executable, "-P", "-m", "qwenctl")
HF_TOKEN = "hf-token"  # noqa: S105 - the name of a file


class Service(Protocol):
    """A service manager: systemd or launchd."""

    def install(self, service: str, socket: str | None, *, start: bool) -> list[str]:
        """Install or update the files and the service; return the changes."""

    def write(self, service: str, socket: str | None) -> list[str]:
        """Install or update the files alone, so that what runs goes on; return the changes."""

    def uninstall(self) -> list[str]:
        """Stop and remove the service; return the changes."""

    def start(self) -> None:
        """Start the service."""

    def stop(self) -> bool:
        """Stop the service until it is started again; return whether it was running."""

    def restart(self) -> None:
        """Stop the service and start it again."""

    def look(self) -> ServiceState:
        """Return the service's state, as the manager reports it."""

    def listening(self) -> str | None:
        """Return the address that the manager itself listens on, as ``units.listening`` writes it."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The texts of a service's files. ``socket`` is None where no socket unit is wanted or possible."""

    service: str
    socket: str | None = None

    @property
    def program(self) -> tuple[str, ...]:
        """The words that start qwenctl in these files, without its arguments."""
        return PROGRAM


def service_of(places: Places) -> Service:
    """Return the service manager for these places."""
    return (Systemd if places.manager == "systemd" else Launchd)(places, command.run)


def render(
    places: Places, settings: Settings, arguments: tuple[str, ...], *, socket: bool, keep_awake: bool = False
) -> Rendered:
    """Return the texts of this service's files. ``arguments`` are global options for the daemon.

    There is a ``socket`` unit only with a gate; without a gate the server itself listens on the port.

    Raises:
        ControlError: there is no such service manager on this machine.
    """
    words = (*PROGRAM, *arguments, "run")
    if places.manager == "launchd":
        return Rendered(_plist(places, words, keep_awake=keep_awake))
    running = Systemd(places, command.run).version()
    if running == 0:
        raise ControlError(
            "cannot render units: this machine has no systemd", hint="qwenctl up works without a service"
        )
    server = settings.server
    with_socket = socket and settings.gate.enabled
    text = _template("systemd/qwenctl.socket")
    listening = units.socket(text, server.host, server.port) if with_socket else None
    unit = units.Unit(
        command=words,
        systemd=running,
        environment=_environment(places),
        credentials=_credentials(places, settings) if places.scope == "system" else (),
        folders=_folders(settings) if places.scope == "system" else (),
        writable=_writable() if places.scope == "system" else (),
        groups=tuple(name for name in GPU_GROUPS if _has_group(name)),
        socket=listening is not None,
    )
    return Rendered(units.service(_template(f"systemd/qwenctl-{places.scope}.service"), unit), listening)


def installed_options(places: Places) -> tuple[tuple[str, ...], bool]:
    """Return the global options that the installed service passes on, and whether it keeps a Mac awake."""
    text = installed_files.current(places.service) or ""
    systemd = places.manager == "systemd"
    options = units.arguments(text) if systemd else plists.arguments(text)
    return options, "<string>--keep-awake</string>" in text


def is_current(places: Places, settings: Settings) -> bool:
    """Return whether ``install`` would write the same files again, with the same options.

    Raises:
        ControlError: there is no such service manager on this machine.
    """
    if places.of_homebrew:
        return True
    options, keep_awake = installed_options(places)
    socket = installed_files.current(places.socket) if places.socket is not None else None
    rendered = render(places, settings, options, socket=socket is not None, keep_awake=keep_awake)
    return rendered == Rendered(installed_files.current(places.service) or "", socket)


def _plist(places: Places, words: tuple[str, ...], *, keep_awake: bool) -> str:
    log = places.logs / DAEMON_LOG
    more = ("--log", str(log), *(("--keep-awake",) if keep_awake else ()))
    kind, user = ("agent", None) if places.scope == "user" else ("daemon", owner())
    job = plists.Job((*words, *more), _environment(places), str(places.logs / LAUNCHD_LOG), user)
    return plists.job(_template_bytes(f"launchd/{kind}.plist"), job)


def _environment(places: Places) -> tuple[tuple[str, str], ...]:
    carried = {name: os.environ[name] for name in CARRIED if _is_plain(os.environ.get(name))}
    if places.scope == "system" and places.manager == "systemd":
        own = {
            "XDG_CONFIG_HOME": paths.SYSTEM_CONFIG,
            "XDG_STATE_HOME": paths.SYSTEM_STATE,
            "XDG_CACHE_HOME": paths.SYSTEM_CACHE,
        }
        carried |= {name: str(folder.parent) for name, folder in own.items()}
        carried.setdefault("HF_HOME", str(paths.SYSTEM_CACHE / "huggingface"))
    if places.manager == "launchd":
        carried["HOME"] = str(Path.home())
    return (("PATH", _path()), *sorted(carried.items()))


def _is_plain(value: str | None) -> bool:
    """Whether other users may read this value: a proxy's address may contain a password."""
    return bool(value) and "@" not in str(value)


def _path() -> str:
    """Return a PATH that does not depend on who installs, with the folder of the llama-server found now."""
    server = shutil.which("llama-server")
    folders = (
        str(Path(sys.executable).parent),
        *((str(Path(server).parent),) if server else ()),
        *(paths.BREW_PATH if sys.platform == "darwin" else ()),
        *SYSTEM_PATH,
    )
    return ":".join(dict.fromkeys(folders))


def _credentials(places: Places, settings: Settings) -> tuple[tuple[str, str], ...]:
    credentials = []
    if settings.server.api_key_file is not None:
        credentials.append(("QWENCTL_SERVER__API_KEY_FILE", settings.server.api_key_file))
    if (places.config / HF_TOKEN).exists():
        credentials.append(("HF_TOKEN_PATH", str(places.config / HF_TOKEN)))
    return tuple(credentials)


def _folders(settings: Settings) -> tuple[str, ...]:
    """Return the folders that the service must read: those of Python, this package, the binary, the model."""
    folders = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2]]
    folders += [Path(part) for part in os.environ.get("PYTHONPATH", "").split(":") if part]
    if settings.server.binary != "auto":
        folders.append(Path(settings.server.binary).expanduser().parent)
    elif server := shutil.which("llama-server"):
        folders.append(Path(server).resolve().parent)
    if settings.model.path is not None:
        folders.append(Path(settings.model.path).expanduser().parent)
    return tuple(dict.fromkeys(str(folder.absolute()) for folder in folders))


def _writable() -> tuple[str, ...]:
    """Return the model folders that are set. The sandbox allows writing only to these and qwenctl's own."""
    return tuple(os.environ[name] for name in ("HF_HOME", "HF_HUB_CACHE") if os.environ.get(name))


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _template(name: str) -> str:
    return _template_bytes(name).decode()


def _template_bytes(name: str) -> bytes:
    return (paths.data_root() / name).read_bytes()
