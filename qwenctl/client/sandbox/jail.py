"""Run one program where it can do no harm: the part of the sandbox that runs inside. Linux; a script.

Started by sandbox.py as ``python -I -S jail.py SPEC``, so it imports nothing of qwenctl and no site packages.

    sandbox.py (outside)
      └─ this script: new namespaces (user, mount, pid, net, ipc, uts), a uid that owns nothing
           └─ init, pid 1 inside: builds its own root in a tmpfs, waits; its end ends all inside
                └─ the program: limits set, no capabilities, no new privileges, a new environment

It reports ``ready`` or ``cannot …`` on one descriptor, and exits with the program's code.
Source: namespaces(7), user_namespaces(7), pid_namespaces(7), pivot_root(2), mount_setattr(2), prctl(2).
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import NoReturn, TypedDict

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
SYS_MOUNT_SETATTR = 442  # one number on every architecture
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2

SYSTEM = tuple("/usr /bin /sbin /lib /lib32 /lib64 /etc/ld.so.cache /etc/alternatives /nix/store".split())
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
FOLDERS = ("/work", "/tmp", "/dev/shm")  # noqa: S108 - inside, in its own tmpfs
NOBODYS_UIDS = 2_000_000_000
"""First uid that no account has. Each run gets its own, so that its limit on processes counts it alone."""

INSIDE = 1
"""That uid's number inside."""
MAX_LEFTOVERS = 1000

libc = ctypes.CDLL(None, use_errno=True)


class JailError(Exception):
    """The kernel refused one step."""


class Spec(TypedDict):
    """The order of sandbox.py. ``folder`` holds the files to start with; ``run`` makes the uid unique."""

    command: list[str]
    environment: dict[str, str]
    folder: str
    readable: list[str]
    limits: dict[str, int]
    disk_bytes: int
    inodes: int
    run: int
    report: int
    namespaces: bool
    filter: str  # of system calls, hexadecimal; empty: none


def main() -> None:
    """Read the specification, enter the namespaces, run the program, and exit with its code."""
    spec: Spec = json.loads(sys.argv[1])
    report = spec["report"]
    os.set_inheritable(report, False)
    os.umask(0o022)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        if spec["namespaces"]:
            _enter(spec)
        inside = os.fork()
        if inside == 0:
            _init(spec, report)
    except (OSError, JailError) as error:
        _refuse(report, error)
    os.close(report)
    os._exit(_code(os.waitpid(inside, 0)[1]))


def _enter(spec: Spec) -> None:
    """Leave this machine's namespaces.

    An ordinary user keeps the uid. Root gets a second uid inside that owns nothing outside; only a process
    that stayed outside may write such a map.
    """
    uid, gid = os.getuid(), os.getgid()
    everything = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    if uid == 0:
        nobody = NOBODYS_UIDS + spec["run"]
        entered, enter = os.pipe()
        writer = os.fork()
        if writer == 0:
            os.close(enter)
            os.read(entered, 1)
            os._exit(_write_maps(f"/proc/{os.getppid()}", f"0 0 1\n{INSIDE} {nobody} 1"))
        _call("make namespaces", libc.unshare(everything))
        os.write(enter, b"x")
        if os.waitpid(writer, 0)[1] != 0:
            raise JailError("write the map of users: not permitted")
    else:
        _call("make namespaces", libc.unshare(everything))
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    # no namespaces within: a tmpfs of the program's own would be memory that nothing counts
    Path("/proc/sys/user/max_user_namespaces").write_text("0", encoding="ascii")


def _write_maps(process: str, lines: str) -> int:
    try:
        Path(process, "uid_map").write_text(lines, encoding="ascii")
        Path(process, "gid_map").write_text(lines, encoding="ascii")
    except OSError:
        return 1
    return 0


def _init(spec: Spec, report: int) -> NoReturn:
    """Be pid 1 inside; never returns. When it ends, the kernel kills every process in the namespace."""
    try:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _prctl(PR_SET_DUMPABLE, 0)
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        if spec["namespaces"]:
            owner = os.getuid() or INSIDE
            _build_root(spec, owner)
        else:
            owner = os.getuid()
            os.chdir(spec["folder"])
        program = os.fork()
        if program == 0:
            _program(spec, owner, report)
    except (OSError, JailError) as error:
        _refuse(report, error)
    os.write(report, b"ready")
    os.close(report)
    while True:  # ends: the program ends, or the supervisor kills us at its limit of time
        pid, status = os.wait()
        if pid == program:
            if not spec["namespaces"]:
                _end_children()
            os._exit(_code(status))


def _program(spec: Spec, owner: int, report: int) -> NoReturn:
    """Give up all privileges and become the program; never returns."""
    try:
        for name, value in spec["limits"].items():
            resource.setrlimit(getattr(resource, name), (value, value))
        if os.getuid() == 0 and spec["namespaces"]:
            os.setgroups([])
            os.setresgid(owner, owner, owner)
            os.setresuid(owner, owner, owner)
        os.nice(10)
        os.setsid()
        _prctl(PR_SET_NO_NEW_PRIVS, 1)
        if spec["filter"]:
            _filter(bytes.fromhex(spec["filter"]))
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execvpe(spec["command"][0], spec["command"], spec["environment"])  # noqa: S606 - that is its purpose
    except (OSError, ValueError, JailError) as error:
        _refuse(report, error)


def _filter(code: bytes) -> None:
    """Hand the kernel a filter: struct sock_fprog {unsigned short len; struct sock_filter *filter;}."""
    instructions = ctypes.create_string_buffer(code, len(code))
    # little-endian machines of 8 bytes: the pointer after the length is aligned to 8
    program = (ctypes.c_uint64 * 2)(len(code) // 8, ctypes.addressof(instructions))
    _call("filter system calls", libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0))


def _build_root(spec: Spec, owner: int) -> None:
    """Build the new root: what a program needs, read-only, and one small folder that it may write."""
    libc.sethostname(b"sandbox", 7)
    root = spec["folder"]  # hidden under the tmpfs from here on, in this namespace only
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    files = [(path.relative_to(root), path.read_bytes()) for path in Path(root).rglob("*") if path.is_file()]
    size = f"size={spec['disk_bytes']},nr_inodes={spec['inodes']},mode=755"
    _mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, size)
    for path in (*SYSTEM, *spec["readable"]):
        _show(root, path)
    for device in DEVICES:
        _bind(device, root + device)
    group = owner if os.getuid() == 0 else os.getgid()
    for name in FOLDERS:
        Path(root + name).mkdir(parents=True, exist_ok=True)
        os.chown(root + name, owner, group)
    for place, content in files:
        target = Path(root, "work", place)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        os.chown(target, owner, group)
    os.chdir(root)
    _call("change the root", libc.pivot_root(b".", b"."))
    _call("leave the old root", libc.umount2(b".", MNT_DETACH))
    os.chdir("/work")


def _show(root: str, path: str) -> None:
    """Let the program read ``path`` at the same path."""
    here, there = Path(path), Path(root + path)
    if there.exists() or there.is_symlink():
        return
    if here.is_symlink():  # /bin is one on most systems
        there.parent.mkdir(parents=True, exist_ok=True)
        there.symlink_to(here.readlink())
    elif here.exists():
        _bind(path, root + path)
        attributes = (ctypes.c_uint64 * 4)(ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, 0, 0, 0)
        size = ctypes.sizeof(attributes)
        name = os.fsencode(there)
        result = libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, name, AT_RECURSIVE, attributes, size)
        _call(f"make {path} read-only", result)


def _bind(path: str, target: str) -> None:
    there = Path(target)
    there.parent.mkdir(parents=True, exist_ok=True)
    if Path(path).is_dir():
        there.mkdir(exist_ok=True)
    else:
        there.touch()
    _mount(path, target, None, MS_BIND | MS_REC)


def _end_children() -> None:
    """Kill the processes that the program left running. With namespaces the kernel does this."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    for _ in range(MAX_LEFTOVERS):
        pids = children.read_text(encoding="ascii").split() if children.exists() else []
        if not pids:
            return
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(int(pids[0]), signal.SIGKILL)
            os.waitpid(int(pids[0]), 0)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    words = [word.encode() if word else None for word in (source, target, kind)]
    result = libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None)
    _call(f"mount {source or kind or 'privately'} on {target}", result)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        _call("change the process's own settings", libc.prctl(option, value, 0, 0, 0))


def _call(what: str, result: int) -> None:
    if result != 0:
        raise JailError(f"{what}: {os.strerror(ctypes.get_errno()).lower()}")


def _refuse(report: int, error: Exception) -> NoReturn:
    os.write(report, f"cannot {error}".encode())
    os._exit(125)


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    main()
