"""Render launchd's property lists from the templates in ``launchd/``. Pure: no I/O."""

import plistlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Job:
    """The values of a property list. ``user`` is the user that a system daemon runs as."""

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    output: str
    user: str | None = None


def arguments(text: str) -> tuple[str, ...]:
    """Return the global options that an installed job passes to ``qwenctl run``."""
    try:
        words = plistlib.loads(text.encode())["ProgramArguments"]
    except (ValueError, KeyError, TypeError, plistlib.InvalidFileException):
        return ()  # somebody has changed the file: install writes it anew
    return tuple(words[words.index("qwenctl") + 1 : words.index("run")]) if "run" in words else ()


def job(template: bytes, job_: Job) -> str:
    """Return the text of ``qwenctl.plist``."""
    values = plistlib.loads(template)
    values["ProgramArguments"] = list(job_.command)
    values["EnvironmentVariables"] = dict(job_.environment)
    values["StandardOutPath"] = values["StandardErrorPath"] = job_.output
    if job_.user is not None:
        values["UserName"] = job_.user
    return plistlib.dumps(values, sort_keys=False).decode()
