"""Write the profile for macOS's sandbox-exec. Pure: no I/O.

Only what the profile names is allowed. The program cannot start processes: macOS cannot limit the processes
of one run, and cannot find those that left their group.

A rule is compared with the canonical path of a file, which has no symlinks. A symlink on the way to that file
is looked at by its own path. So each path stands here in both forms, and each symlink is named.
Source: sandbox-exec(1); the language as in /System/Library/Sandbox/Profiles. Firefox's SandboxPolicyContent.h
and openai/codex's restricted_read_only_platform_defaults.sbpl use these operations, and run on people's Macs.
This profile was not run on a Mac yet.
"""

import posixpath
from collections.abc import Callable, Iterable

SYSTEM = (
    "/usr/lib",
    "/usr/share",
    "/usr/bin",
    "/bin",
    "/System",  # dyld's cache of all libraries is in /System/Volumes/Preboot/Cryptexes on macOS 13 and later
    "/private/preboot/Cryptexes",
    "/private/var/db/dyld",  # macOS 10
    "/private/var/db/timezone",
    "/private/etc/ssl",  # the configuration of uv's OpenSSL
    "/Library/Frameworks",  # python.org's Python
    "/Library/Apple",  # with the next, Rosetta: an Intel Python on Apple silicon
    "/private/var/db/oah",
)
DATA_VOLUME = "/System/Volumes/Data"
"""Everything of a person has a second path there."""
HOMEBREW = ("/opt/homebrew", "/usr/local")
"""Where Homebrew is on Apple silicon, and on Intel."""
HOMEBREW_FOLDERS = ("Cellar", "Frameworks", "bin", "etc/openssl@3", "lib", "opt")
"""What its Python and the libraries of that need. Its ``var`` has people's databases. Source: nika #973."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
MOST_LINKS = 32
"""So many symlinks may be in one path. Source: MAXSYMLINKS, sys/param.h of macOS."""


def profile(folder: str, readable: Iterable[str], links: Iterable[str] = ()) -> str:
    """Return the profile for a program that may write ``folder`` and read what is ``readable``.

    Without ``(literal "/")`` dyld aborts every program on macOS 26. Source: ai-jail #77.
    """
    devices = " ".join(f"(literal {_quoted(path)})" for path in ("/", *DEVICES))
    return f"""(version 1)
(deny default)
(allow process-exec)
(allow process-info* (target self))
(allow sysctl-read)
(allow signal (target self))
(allow file-read-metadata file-test-existence)
(allow file-read* {devices})
(allow file-read* file-map-executable
{_rules("subpath", SYSTEM)})
(deny file-read-data (subpath {_quoted(DATA_VOLUME)}))
(allow file-read* file-map-executable
{_rules("subpath", readable)}
{_rules("literal", links)})
(allow file-read* file-write* (subpath {_quoted(folder)}))
(allow file-write-data (literal "/dev/null"))
"""


def python_paths(
    paths: Iterable[str], readlink: Callable[[str], str | None]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the folders that a Python reads which uses these paths, and the symlinks on the way.

    ``readlink`` returns where a symlink points to, None for what is none. A Python of Homebrew needs the
    libraries of other formulae.
    """
    folders: list[str] = []
    links: list[str] = []
    for path in paths:
        real, found = resolve(path, readlink)
        folders += [path, real]
        links += found
    for prefix in HOMEBREW:
        if any(path.startswith(f"{prefix}/") for path in folders):
            folders += [f"{prefix}/{name}" for name in HOMEBREW_FOLDERS]
    kept = dict.fromkeys(path for path in folders if path not in ("/", "/usr"))
    return tuple(sorted(kept, key=len)), tuple(dict.fromkeys(links))


def resolve(path: str, readlink: Callable[[str], str | None]) -> tuple[str, tuple[str, ...]]:
    """Return the canonical path, and each symlink that was followed on the way."""
    here, links = "/", list[str]()
    left = [part for part in path.split("/") if part]
    while left:
        part = left.pop(0)
        there = posixpath.normpath(posixpath.join(here, part))
        target = readlink(there) if len(links) < MOST_LINKS else None
        if target is None:
            here = there
            continue
        links.append(there)
        here = "/" if target.startswith("/") else here
        left = [each for each in target.split("/") if each] + left
    return here, tuple(links)


def _rules(kind: str, paths: Iterable[str]) -> str:
    return "\n".join(f"  ({kind} {_quoted(path)})" for path in paths)


def _quoted(path: str) -> str:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
