"""Write the profile for macOS's sandbox-exec. Pure: no I/O.

Only what the profile names is allowed. The program cannot start processes: macOS cannot limit the processes
of one run, and cannot find those that left their group.
Source: sandbox-exec(1); the language as in /System/Library/Sandbox/Profiles. Not yet run on a Mac.
"""

from collections.abc import Iterable

SYSTEM = (
    "/usr/lib",
    "/usr/share",
    "/usr/bin",
    "/bin",
    "/System",
    "/Library/Frameworks",
    "/private/var/db/dyld",
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


def profile(folder: str, readable: Iterable[str]) -> str:
    """Return the profile for a program that may write ``folder`` and read what is ``readable``."""
    subpaths = "\n".join(f"  (subpath {_quoted(path)})" for path in (*SYSTEM, *readable))
    devices = " ".join(f"(literal {_quoted(path)})" for path in DEVICES)
    return f"""(version 1)
(deny default)
(allow process-exec)
(allow sysctl-read)
(allow signal (target self))
(allow file-read-metadata)
(allow file-read*
{subpaths}
  {devices})
(allow file-read* file-write* (subpath {_quoted(folder)}))
(allow file-write-data (literal "/dev/null"))
"""


def _quoted(path: str) -> str:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
