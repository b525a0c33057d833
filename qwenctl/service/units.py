"""Render the unit files from the templates in ``systemd/``, for one version of systemd. Pure: no I/O.

In a template ``@name@`` stands for a value; alone on a line, for any number of lines. A key that the
running systemd does not know yet is left out, so that nothing warns at each start.
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
"""The systemd that first knew a key. Source: systemd's NEWS and its manual pages ("Added in version")."""
BACKOFF_SINCE = SINCE["RestartSteps"]
CREDENTIALS_SINCE = 250
"""The systemd that expands ``%d`` to the folder of credentials. Source: systemd.unit(5)."""
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - named, not used
"""What the system unit's sandbox hides from it."""
NUMERIC = {"localhost": "127.0.0.1", "0.0.0.0": "0.0.0.0", "::": "[::]"}  # noqa: S104 - a table
PLACEHOLDER = re.compile(r"@([a-z_]+)@")


@dataclass(frozen=True, slots=True)
class Unit:
    """What a service unit is rendered for.

    ``folders`` are read by the service and may lie where the sandbox hides them. ``credentials`` pairs a
    setting's environment variable with a file that only root need be able to read. ``socket``: there is a
    socket unit, which starts with the service and passes it its port.
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
    return _known(_filled(template, values), unit.systemd)


def socket(template: str, host: str, port: int) -> str | None:
    """Return the text of ``qwenctl.socket``, or None for a host that systemd cannot listen on by name."""
    address = listening(host, port)
    return _filled(template, {"listen": address}) if address is not None else None


def listening(host: str, port: int) -> str | None:
    """Return what a socket unit calls that address, or None for a host by name."""
    address = NUMERIC.get(host, host)
    if ":" in address and not address.startswith("["):
        address = f"[{address}]"
    return f"{address}:{port}" if re.fullmatch(r"[0-9.]+|\[[0-9a-fA-F:.]+\]", address) else None


def listens_on(text: str) -> str | None:
    """Return the address that a socket unit listens on."""
    found = re.search(r"^ListenStream=(.+)$", text, re.MULTILINE)
    return found[1] if found else None


def arguments(text: str) -> tuple[str, ...]:
    """Return the global options that an installed unit passes to ``qwenctl run``."""
    found = re.search(r"^ExecStart=(.+)$", text, re.MULTILINE)
    words = [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(found[1])] if found else []
    return tuple(words[words.index("qwenctl") + 1 : -1]) if "qwenctl" in words else ()


def version(said: str) -> int:
    """Return the number in what ``systemctl --version`` prints; 0 where there is none."""
    found = re.match(r"systemd (\d+)", said)
    return int(found[1]) if found else 0


def _filled(template: str, values: Mapping[str, str]) -> str:
    lines = []
    for line in template.splitlines():
        alone = PLACEHOLDER.fullmatch(line)
        if alone and not values[alone[1]]:
            continue
        lines.append(PLACEHOLDER.sub(lambda found: values[found[1]], line))
    return "\n".join(line for line in lines if line != "SupplementaryGroups=") + "\n"


def _known(text: str, running: int) -> str:
    lines = text.splitlines()
    return "\n".join(line for line in lines if SINCE.get(line.partition("=")[0], 0) <= running) + "\n"


def _is_hidden(folder: str) -> bool:
    return any(folder == place or folder.startswith(f"{place}/") for place in HIDDEN)


def _credential(variable: str, path: str) -> str:
    name = variable.lower().replace("_", "-")
    return f"LoadCredential={name}:{path.replace('%', '%%')}\nEnvironment={variable}=%d/{name}"


def _exec_word(word: str) -> str:
    """Quote a word of a command line, where ``$`` means a variable too."""
    return _word(word.replace("$", "$$"))


def _word(text: str) -> str:
    """Quote a word as systemd.syntax(7) says; ``%`` would begin a specifier."""
    safe = text.replace("%", "%%")
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./$~^-]+", safe):
        return safe
    escaped = safe.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
