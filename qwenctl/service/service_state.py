"""What a service manager says of our service, in one form for every manager. Pure: no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass

from qwenctl.service.launchctl_print import PrintedJob

ALIVE = ("active", "activating", "reloading")
"""States of a unit in which its daemon runs. Source: systemctl(1)."""
ENDING = ("last exit code", "last terminating signal", "last exit reason")
SHOWN = ("state", "pid", "runs", *ENDING, "stdout path")
"""What a person needs of the fifty lines of ``launchctl print``."""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The state: for a person, whether the daemon runs, and what is wrong, if anything.

    ``known`` is all that the manager says, ``shown`` the part that a person reads.
    """

    words: str
    running: bool
    pid: int | None
    known: dict[str, str]
    shown: dict[str, str]
    fault: str | None = None
    runs: int = 0
    ending: str | None = None
    exit_code: int | None = None


def of_unit(properties: Mapping[str, str]) -> ServiceState:
    """Return the state that ``systemctl show`` describes."""
    state = properties.get("ActiveState", "unknown")
    pid = properties.get("MainPID", "")
    known = dict(properties)
    return ServiceState(
        state,
        state in ALIVE,
        int(pid) if pid.isdecimal() and pid != "0" else None,
        known,
        known,
        "failed" if state == "failed" else None,
    )


def of_job(job: PrintedJob) -> ServiceState:
    """Return the state that ``launchctl print`` describes.

    A job that is loaded and does not run is a fault, unless its daemon ended as it was told: with code 0.
    """
    idle = job.running or not job.fields or (job.state == "not running" and job.last_exit == 0)
    return ServiceState(
        job.words,
        job.running,
        job.pid,
        job.fields,
        {name: job.fields[name] for name in SHOWN if name in job.fields},
        None if idle or job.state == "SIGTERMed" else job.words,
        job.runs,
        job.ending,
        job.last_exit,
    )


def ended_since(before: ServiceState, now: ServiceState) -> bool:
    """Return whether a run that began after ``before`` has ended by now. systemd's runs are not counted."""
    began = now.runs - (before.runs if before.known else 0)
    gone = not now.running and now.pid is None
    return now.ending is not None and (began > 1 or (began == 1 and gone))
