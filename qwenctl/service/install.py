"""Say what the files of a service hold here and now, and give them to the manager that installs them."""

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
from qwenctl.service.places import Places
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
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "PYTHONPATH",
)
"""What a service has in common with the shell that installs it: its folders and its way out. No secrets."""
SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
GPU_GROUPS = ("render", "video")
HF_TOKEN = "hf-token"  # noqa: S105 - the name of a file


class Service(Protocol):
    """What each service manager can do."""

    def install(self, service: str, socket: str | None, *, start: bool) -> list[str]:
        """Make the files and their state be what they should be; return what was changed."""

    def uninstall(self) -> list[str]:
        """Stop and remove the service; return what was changed."""

    def start(self) -> None:
        """Start the service."""

    def stop(self) -> bool:
        """Stop the service until it is started again; return whether it ran."""

    def restart(self) -> None:
        """End the service and start it again."""

    def look(self) -> dict[str, str]:
        """Return what the manager knows of the service."""

    def listening(self) -> str | None:
        """Return where the manager itself listens now, in the words of ``units.listening``."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The texts of a service's files. ``socket`` is None where none is wanted or possible."""

    service: str
    socket: str | None = None


def service_of(places: Places) -> Service:
    """Return the service manager in charge of these places."""
    return (Systemd if places.manager == "systemd" else Launchd)(places, command.run)


def render(
    places: Places, settings: Settings, arguments: tuple[str, ...], *, socket: bool, keep_awake: bool = False
) -> Rendered:
    """Return what the files of this service are to hold. ``arguments`` are global options of the daemon.

    A ``socket`` unit is for a gate: without one, the server itself listens.

    Raises:
        ControlError: the service manager is not there.
    """
    words = (sys.executable, "-P", "-m", "qwenctl", *arguments, "run")
    if places.manager == "launchd":
        return Rendered(_plist(places, words, keep_awake=keep_awake))
    running = Systemd(places, command.run).version()
    if running == 0:
        raise ControlError("cannot render units: no systemd here", hint="qwenctl up works without a service")
    server = settings.server
    wanted = socket and settings.gate.enabled
    text = _template("systemd/qwenctl.socket")
    listening = units.socket(text, server.host, server.port) if wanted else None
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


def is_current(places: Places, settings: Settings) -> bool:
    """Return whether the installed files are what ``install`` would write now, with the options they have.

    Raises:
        ControlError: the service manager is not there.
    """
    text = installed_files.current(places.service) or ""
    systemd = places.manager == "systemd"
    kept = units.arguments(text) if systemd else plists.arguments(text)
    socket = installed_files.current(places.socket) if places.socket is not None else None
    wanted = render(
        places, settings, kept, socket=socket is not None, keep_awake="<string>--keep-awake</string>" in text
    )
    return wanted == Rendered(text, socket)


def _plist(places: Places, words: tuple[str, ...], *, keep_awake: bool) -> str:
    log = places.state / DAEMON_LOG
    more = ("--log", str(log), *(("--keep-awake",) if keep_awake else ()))
    kind, user = ("agent", None) if places.scope == "user" else ("daemon", _who())
    job = plists.Job((*words, *more), _environment(places), str(places.state / LAUNCHD_LOG), user)
    return plists.job(_template_bytes(f"launchd/{kind}.plist"), job)


def _who() -> str:
    """Return whose folders a daemon of the machine uses: the user behind sudo."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"


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
    """Whether a value may stand in a file that anyone reads: no password in a proxy's address."""
    return bool(value) and "@" not in str(value)


def _path() -> str:
    """Return the same PATH whoever installs, with llama-server on it if it is on theirs."""
    server = shutil.which("llama-server")
    folders = (
        str(Path(sys.executable).parent),
        *((str(Path(server).parent),) if server else ()),
        *SYSTEM_PATH,
    )
    return ":".join(dict.fromkeys(folders))


def _credentials(places: Places, settings: Settings) -> tuple[tuple[str, str], ...]:
    found = []
    if settings.server.api_key_file is not None:
        found.append(("QWENCTL_SERVER__API_KEY_FILE", settings.server.api_key_file))
    if (places.config / HF_TOKEN).exists():
        found.append(("HF_TOKEN_PATH", str(places.config / HF_TOKEN)))
    return tuple(found)


def _folders(settings: Settings) -> tuple[str, ...]:
    """Return what the service must read wherever it lies: Python, this package, the binary, the model."""
    named = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2]]
    named += [Path(part) for part in os.environ.get("PYTHONPATH", "").split(":") if part]
    if settings.server.binary != "auto":
        named.append(Path(settings.server.binary).expanduser().parent)
    elif server := shutil.which("llama-server"):
        named.append(Path(server).resolve().parent)
    if settings.model.path is not None:
        named.append(Path(settings.model.path).expanduser().parent)
    return tuple(dict.fromkeys(str(folder.absolute()) for folder in named))


def _writable() -> tuple[str, ...]:
    """Return the folder of models, if it was named: the sandbox leaves only qwenctl's own ones writable."""
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
