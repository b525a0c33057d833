"""Render launchd's property lists from the templates in ``launchd/``. Pure: no I/O."""

import plistlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Job:
    """What a property list is rendered for. ``user`` is whose folders a daemon of the machine uses."""

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    output: str
    user: str | None = None


def arguments(text: str) -> tuple[str, ...]:
    """Return the global options that an installed job passes to ``qwenctl run``."""
    words = plistlib.loads(text.encode()).get("ProgramArguments", [])
    return tuple(words[words.index("qwenctl") + 1 : words.index("run")]) if "run" in words else ()


def job(template: bytes, wanted: Job) -> str:
    """Return the text of ``qwenctl.plist``."""
    values = plistlib.loads(template)
    values["ProgramArguments"] = list(wanted.command)
    values["EnvironmentVariables"] = dict(wanted.environment)
    values["StandardOutPath"] = values["StandardErrorPath"] = wanted.output
    if wanted.user is not None:
        values["UserName"] = wanted.user
    return plistlib.dumps(values, sort_keys=False).decode()
