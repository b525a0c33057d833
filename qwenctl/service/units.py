"""Render the unit files from the templates in ``systemd/``, for one version of systemd. Pure: no I/O.

In a template ``@name@`` stands for a value. Alone on a line it stands for any number of lines. A key that the
running systemd does not know is left out; otherwise systemd would warn at each start.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

SINCE = {
    "RestartSteps": 254,
    "RestartMaxDelaySec": 254,
    "LoadCredential": 247,
    "ProtectProc": 247,
    "ProtectClock": 245,
    "ProtectKernelLogs": 244,
    "OOMPolicy": 243,
    "ProtectHostname": 242,
    "RestrictSUIDSGID": 242,
    "CacheDirectoryMode": 235,
    "StateDirectoryMode": 235,
}
"""The first systemd version with a key. Source: systemd's NEWS and its manual pages ("Added in version")."""
BACKOFF_SINCE = SINCE["RestartSteps"]
CREDENTIALS_SINCE = 250
"""The first systemd version that expands ``%d`` to the folder of credentials. Source: systemd.unit(5)."""
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - named, not used
"""Folders that the system unit's sandbox hides from the service."""
NUMERIC = {"localhost": "127.0.0.1", "0.0.0.0": "0.0.0.0", "::": "[::]"}  # noqa: S104 - a table
PLACEHOLDER = re.compile(r"@([a-z_]+)@")


@dataclass(frozen=True, slots=True)
class Unit:
    """The values of a service unit.

    ``folders`` are read by the service, also where the sandbox would hide them. ``credentials`` pairs the
    environment variable of a setting with a file that root can read. ``socket``: there is a socket unit. It
    starts with the service and passes the port to it.
    """

    command: tuple[str, ...]
    systemd: int
    environment: tuple[tuple[str, str], ...] = ()
    credentials: tuple[tuple[str, str], ...] = ()
    folders: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    socket: bool = False


def service(template: str, unit: Unit) -> str:
    """Return the text of ``qwenctl.service``."""
    hidden = tuple(folder for folder in unit.folders if _is_hidden(folder))
    at_home = any(_is_hidden(folder) and not folder.startswith(("/tmp", "/var")) for folder in hidden)  # noqa: S108
    credentials = unit.credentials if unit.systemd >= CREDENTIALS_SINCE else ()
    values = {
        "command": " ".join(_exec_word(word) for word in unit.command),
        "environment": "\n".join(
            f"Environment={_word(f'{name}={value}')}" for name, value in unit.environment
        ),
        "credentials": "\n".join(_credential(name, path) for name, path in credentials),
        "restart_sec": "250ms" if unit.systemd >= BACKOFF_SINCE else "3s",
        "protect_home": "tmpfs" if at_home else "yes",
        "folders": "\n".join(f"BindReadOnlyPaths={_word(folder)}" for folder in hidden),
        "writable": "\n".join(f"ReadWritePaths={_word(folder)}" for folder in unit.writable),
        "groups": " ".join(unit.groups),
        "sockets": "Sockets=qwenctl.socket" if unit.socket else "",
    }
    return _without_unknown_keys(_filled(template, values), unit.systemd)


def socket(template: str, host: str, port: int) -> str | None:
    """Return the text of ``qwenctl.socket``, or None for a host name: systemd needs an IP address."""
    address = listening(host, port)
    return _filled(template, {"listen": address}) if address is not None else None


def listening(host: str, port: int) -> str | None:
    """Return the address as a socket unit writes it, or None for a host name."""
    address = NUMERIC.get(host, host)
    if ":" in address and not address.startswith("["):
        address = f"[{address}]"
    return f"{address}:{port}" if re.fullmatch(r"[0-9.]+|\[[0-9a-fA-F:.]+\]", address) else None


def listens_on(text: str) -> str | None:
    """Return the address that a socket unit listens on."""
    match = re.search(r"^ListenStream=(.+)$", text, re.MULTILINE)
    return match[1] if match else None


def arguments(text: str) -> tuple[str, ...]:
    """Return the global options that an installed unit passes to ``qwenctl run``."""
    match = re.search(r"^ExecStart=(.+)$", text, re.MULTILINE)
    words = [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(match[1])] if match else []
    return tuple(words[words.index("qwenctl") + 1 : -1]) if "qwenctl" in words else ()


def version(text: str) -> int:
    """Return the version number in the output of ``systemctl --version``; 0 if there is none."""
    match = re.match(r"systemd (\d+)", text)
    return int(match[1]) if match else 0


def _filled(template: str, values: Mapping[str, str]) -> str:
    lines = []
    for line in template.splitlines():
        alone = PLACEHOLDER.fullmatch(line)
        if alone and not values[alone[1]]:
            continue
        lines.append(PLACEHOLDER.sub(lambda match: values[match[1]], line))
    return "\n".join(line for line in lines if line != "SupplementaryGroups=") + "\n"


def _without_unknown_keys(text: str, systemd: int) -> str:
    lines = text.splitlines()
    return "\n".join(line for line in lines if SINCE.get(line.partition("=")[0], 0) <= systemd) + "\n"


def _is_hidden(folder: str) -> bool:
    return any(folder == place or folder.startswith(f"{place}/") for place in HIDDEN)


def _credential(variable: str, path: str) -> str:
    name = variable.lower().replace("_", "-")
    return f"LoadCredential={name}:{path.replace('%', '%%')}\nEnvironment={variable}=%d/{name}"


def _exec_word(word: str) -> str:
    """Quote a word of a command line, where ``$`` begins a variable, too."""
    return _word(word.replace("$", "$$"))


def _word(text: str) -> str:
    """Quote a word as systemd.syntax(7) says; ``%`` would begin a specifier."""
    safe = text.replace("%", "%%")
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./$~^-]+", safe):
        return safe
    escaped = safe.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
