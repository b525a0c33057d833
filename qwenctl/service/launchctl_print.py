"""Read what ``launchctl print`` says of a job. Pure: no I/O.

Only lines at one tab of depth are the job's own. Deeper ones belong to a block, and blocks have the same
names: the two coalitions of a dead job say ``state = active``. launchctl(1) promises no form, so what is not
understood is left out.
"""

import re
from dataclasses import dataclass, field

CONFIG = 78
"""launchd could not start the program, or not open its log: EX_CONFIG of sysexits(3)."""


@dataclass(frozen=True, slots=True)
class PrintedJob:
    """One job as launchd sees it. ``fields`` are its own ``name = value`` lines; none: it is not loaded."""

    fields: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """The state in launchd's words."""
        return self.fields.get("state", "not loaded")

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return _number(self.fields.get("pid"))

    @property
    def runs(self) -> int:
        """How often it was started since it was loaded."""
        return _number(self.fields.get("runs")) or 0

    @property
    def running(self) -> bool:
        """Whether a process of it runs, and is not being ended."""
        return self.state == "running"

    @property
    def last_exit(self) -> int | None:
        """The exit code of the run before; None where there was none, or where a signal ended it."""
        text = self.fields.get("last exit code", self.fields.get("last exit status", ""))
        return None if self.signal is not None else _number(text.partition(":")[0])

    @property
    def signal(self) -> str | None:
        """The signal that ended the run before, in launchd's words. It outranks an exit code."""
        return self.fields.get("last terminating signal")

    @property
    def ending(self) -> str | None:
        """How the run before ended, for a person; None where there was none."""
        if self.signal is not None:
            return f"ended by signal {self.signal.replace(': ', ' ')}"
        if self.last_exit is not None:
            more = ": launchd could not start it, or not open its log" if self.last_exit == CONFIG else ""
            return f"exit code {self.last_exit}{more}"
        reason = self.fields.get("last exit reason")
        return f"ended by macOS: {reason}" if reason else None

    @property
    def words(self) -> str:
        """The state for a person: of a job that does not run, with how it ended."""
        if self.running or self.ending is None:
            return self.state
        return f"{self.state}; last {self.ending}"


def parse(text: str) -> PrintedJob:
    """Return the job that ``launchctl print`` shows. Of a name that comes twice, the first counts."""
    fields: dict[str, str] = {}
    inside = False
    for line in text.splitlines():
        if inside:
            inside = line.rstrip() != "\t}"
            continue
        name, equals, value = line[1:].partition(" = ")
        if not line.startswith("\t") or line.startswith("\t\t") or not equals:
            continue
        if value.strip() == "{":
            inside = True
        else:
            fields.setdefault(name.strip(), value.strip())
    return PrintedJob(fields)


def _number(text: str | None) -> int | None:
    found = re.fullmatch(r"\s*(-?\d{1,12})\s*", text or "")
    return int(found[1]) if found else None
