"""Make this interpreter believe that it runs on a Mac. README.md says what is pretended and what is not.

A ``.pth`` file of the Mac's own Python calls ``install`` before any program begins, so that daemon, gate and
commands need no word of it. What the Mac is like stands in ``facts.json``; a test may change it at any time.
"""

import builtins
import contextlib
import fcntl
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import os
import pwd
import resource
import select
import sys
import time
import types
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.darwin import kqueue
from tests.darwin.place import MacPaths

REMOVED: dict[str, str] = {
    "os": "pidfd_open fdatasync pipe2 memfd_create eventfd eventfd_read eventfd_write splice "
    "copy_file_range posix_fallocate posix_fadvise sched_getaffinity sched_setaffinity setresuid setresgid "
    "getresuid getresgid getxattr setxattr listxattr removexattr unshare setns "
    "O_DIRECT O_PATH getrandom waitid",
    "select": "epoll EPOLL_CLOEXEC EPOLLIN EPOLLOUT EPOLLERR EPOLLHUP EPOLLONESHOT EPOLLET EPOLLRDHUP",
    "socket": "SOCK_CLOEXEC SOCK_NONBLOCK SO_PEERCRED SO_DOMAIN SO_PROTOCOL TCP_QUICKACK TCP_USER_TIMEOUT "
    "TCP_KEEPIDLE AF_NETLINK AF_VSOCK AF_ALG MSG_CMSG_CLOEXEC",
    "fcntl": "F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW",
    "signal": "pidfd_send_signal sigtimedwait sigwaitinfo SIGRTMIN SIGRTMAX SIGPWR SIGSTKFLT SIGPOLL",
    "resource": "prlimit RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_OFILE RLIMIT_RTPRIO RLIMIT_RTTIME "
    "RLIMIT_SIGPENDING",
    "time": "CLOCK_BOOTTIME CLOCK_TAI CLOCK_MONOTONIC_COARSE",
}
"""What the modules of Python have on Linux and not on macOS. Source: the "Availability" lines of its manual.

``os.waitid`` is there on macOS since Python 3.13.
"""
C_NAMES = ("prctl", "pidfd_open", "unshare", "syscall")
"""What macOS' C library does not have, or not in this form."""
ONE_PATH = (
    "open stat lstat listdir scandir access readlink mkdir rmdir unlink remove chmod chown lchown utime "
    "statvfs truncate chdir execv execve"
).split()
TWO_PATHS = ("rename", "replace", "link", "symlink")
KEYCHAIN, CERTIFICATES = "truststore._macos", "truststore._openssl"
"""huggingface_hub's HTTP client asks macOS' keychain for certificates; OpenSSL's stand for them here."""
DEVFS = 0x3D0F
"""The device number of devfs: no file has it."""


class Facts:
    """What this Mac is like now."""

    def __init__(self, path: Path) -> None:
        self._path, self._open = path, builtins.open

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  what JSON holds
        with self._open(self._path) as file:
            return json.load(file)[name]


def install(root: str) -> None:
    """Let this interpreter run on the Mac in ``root``."""
    if sys.platform == "darwin":  # the file was read twice: a 64-bit Linux has two names for its folder
        return
    facts, where = Facts(Path(root) / "facts.json"), MacPaths(root)
    sys.platform = "darwin"
    for module in (os, select, fcntl, resource, time):
        _remove(module)
    select.kqueue, select.kevent = kqueue.Kqueue, kqueue.Kevent  # type: ignore[attr-defined]
    for name, value in kqueue.CONSTANTS.items():
        setattr(select, name, value)
    sys.modules["_scproxy"] = _no_proxies()
    _be_a_person(facts)
    _translate(where)
    _name(facts)
    after: dict[str, Callable[[types.ModuleType], None]] = {
        "socket": _remove,
        "signal": _remove,
        "ctypes": _without_linux_calls,
        "shutil": _without_attributes,
        "sysconfig": _with_linux_variables,
        "subprocess": functools.partial(_with_tools, where=where),
        "psutil": functools.partial(_as_psutil_there, facts=facts),
    }
    for name in after.keys() & sys.modules.keys():
        after.pop(name)(sys.modules[name])
    sys.meta_path.insert(0, AfterImport(after))


def _remove(module: types.ModuleType) -> None:
    names = REMOVED[module.__name__].split()
    if module is os and sys.version_info >= (3, 13):
        names.remove("waitid")
    for name in names:
        if hasattr(module, name):
            delattr(module, name)


def _no_proxies() -> types.ModuleType:
    """Stand for the module that asks macOS for its proxies; ``urllib.request`` imports it there."""
    module: Any = types.ModuleType("_scproxy")
    module._get_proxy_settings = dict
    module._get_proxies = dict
    return module  # type: ignore[no-any-return]


def _be_a_person(facts: Facts) -> None:
    """Be the first user of a Mac (501, group 20), unless the test wants root."""
    uid, home = facts["uid"], os.environ.get("HOME", "/")
    person = pwd.struct_passwd(("mac", "*", uid, 20, "mac", home, "/bin/zsh"))
    by_uid, by_name = pwd.getpwuid, pwd.getpwnam
    pwd.getpwuid = lambda number: person if number == uid else by_uid(number)
    pwd.getpwnam = lambda name: person if name == "mac" else by_name(name)
    if facts["root"] and "MAC_USERNAME" not in os.environ:  # launchd names the user of a system job
        return
    for name, value in (("getuid", uid), ("geteuid", uid), ("getgid", 20), ("getegid", 20)):
        setattr(os, name, lambda value=value: value)
    os.getgroups = lambda: [20, 12, 61, 80]
    for name in ("chown", "lchown", "fchown"):
        setattr(os, name, lambda *_args, **_named: None)  # all files are that user's already


def _name(facts: Facts) -> None:
    real = os.uname()
    version = f"Darwin Kernel Version {facts['darwin']}"
    told = os.uname_result(("Darwin", real.nodename, facts["darwin"], version, facts["arch"]))
    os.uname = lambda: told


# Paths.


def _translate(where: MacPaths) -> None:  # noqa: C901  one wrapper for each way to name a file
    uid, real_uid = os.getuid(), _real_uid()

    def known(path: Any) -> Any:  # noqa: ANN401  text, bytes, a number, or anything with a path
        return where.there(path) if _outside(sys._getframe(2)) else path

    def seen(result: os.stat_result, path: Any = None) -> os.stat_result:  # noqa: ANN401
        """Give the files of the real user to the Mac's, and to a node of /dev/fd the device of devfs.

        Source: XNU 11417, bsd/vfs/kpi_vfs.c, vnode_getattr: va_fsid is that of the mount that was looked up.
        """
        devfs = isinstance(path, str | os.PathLike) and os.fspath(path).startswith("/dev/fd/")
        if not devfs and (result.st_uid != real_uid or uid == real_uid):
            return result
        kept: Any = result.__reduce__()[1]
        fields, rest = kept
        changed = list(fields)
        changed[2] = DEVFS if devfs else result.st_dev
        changed[4] = uid if result.st_uid == real_uid else result.st_uid
        return os.stat_result(changed, rest)

    def wrap(name: str, paths: int) -> None:
        real = getattr(os, name)

        @functools.wraps(real)
        def call(*args: Any, **named: Any) -> Any:  # noqa: ANN401
            args = (*(known(one) for one in args[:paths]), *args[paths:])
            result = real(*args, **named)
            return seen(result, args[0]) if name in ("stat", "lstat") else result

        setattr(os, name, call)
        for can in (
            os.supports_dir_fd,
            os.supports_fd,
            os.supports_follow_symlinks,
            os.supports_effective_ids,
        ):
            if real in can:
                can.add(call)

    for name in ONE_PATH:
        wrap(name, 1)
    for name in TWO_PATHS:
        wrap(name, 2)
    fstat, opened = os.fstat, io.open
    os.fstat = lambda fd: seen(fstat(fd))

    @functools.wraps(opened)
    def open_there(file: Any, *args: Any, **named: Any) -> Any:  # noqa: ANN401
        return opened(known(file), *args, **named)

    builtins.open = io.open = open_there


def _real_uid() -> int:
    import posix  # noqa: PLC0415  what the wrapped module stands for

    return posix.getuid()


def _outside(frame: types.FrameType) -> bool:
    """Whether a path was asked for by the program, and not by psutil, which plays the kernel here."""
    caller: types.FrameType | None = frame
    while caller is not None and caller.f_globals.get("__name__") in ("pathlib", __name__, "genericpath"):
        caller = caller.f_back
    return caller is None or not str(caller.f_globals.get("__name__")).startswith("psutil")


# Modules that are changed when they are imported.


class AfterImport(importlib.abc.MetaPathFinder):
    """Change a module once it has been imported. psutil's own import must find Linux."""

    def __init__(self, after: dict[str, Callable[[types.ModuleType], None]]) -> None:
        self._after = after

    def find_spec(
        self, name: str, _path: object = None, _target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find one of these modules, once."""
        if name == KEYCHAIN:
            known = importlib.util.find_spec(CERTIFICATES)
            return importlib.util.spec_from_file_location(name, known.origin) if known is not None else None
        change = self._after.pop(name, None)
        if change is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = Changed(spec.loader, change)
        return spec


class Changed(importlib.abc.Loader):
    """Load a module as ever, then change it."""

    def __init__(self, loader: importlib.abc.Loader, change: Callable[[types.ModuleType], None]) -> None:
        self._loader, self._change = loader, change

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        """Do as the loader itself."""
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        """Do as the loader itself, and then the change."""
        with _linux() if module.__name__ == "psutil" else contextlib.nullcontext():
            self._loader.exec_module(module)
        self._change(module)


@contextlib.contextmanager
def _linux() -> Iterator[None]:
    sys.platform = "linux"
    try:
        yield
    finally:
        sys.platform = "darwin"


def _with_linux_variables(module: types.ModuleType) -> None:
    """Read what this Python was built with once, while its file can be found."""
    with _linux():
        module.get_config_vars()


def _without_attributes(module: types.ModuleType) -> None:
    """Let no extended attributes be copied: Python has no calls for them on macOS. Source: shutil.py."""
    vars(module)["_copyxattr"] = lambda *_args, **_named: None


def _without_linux_calls(module: types.ModuleType) -> None:
    real = module.CDLL.__getattr__

    def find(library: Any, name: str) -> Any:  # noqa: ANN401
        if name in C_NAMES:
            raise AttributeError(f"dlsym(RTLD_DEFAULT, {name}): symbol not found")
        return real(library, name)

    module.CDLL.__getattr__ = find


def _with_tools(module: types.ModuleType, where: MacPaths) -> None:
    """Let macOS' own programs be found where they are on a Mac: those in tools/."""
    real = module.Popen.__init__

    def begin(popen: Any, args: Any, *more: Any, **named: Any) -> None:  # noqa: ANN401
        if isinstance(args, list | tuple) and args:
            environment = named.get("env") or os.environ
            args = [where.program(os.fspath(args[0]), environment.get("PATH", "")), *args[1:]]
            args = [where.named(each) if isinstance(each, str) else each for each in args]
        real(popen, args, *more, **named)

    module.Popen.__init__ = begin


Memory = namedtuple("Memory", "total available percent used free active inactive wired")
Swap = namedtuple("Swap", "total used free percent sin sout")


def _as_psutil_there(psutil: Any, facts: Facts) -> None:  # noqa: ANN401  the module itself is changed
    """Give psutil macOS' formulas. Source: psutil 7.2.2, _psosx.py and arch/osx."""
    process, platform = psutil.Process, psutil._psplatform.Process
    step_at_import = facts["clock_step_s"]

    def memory() -> Memory:
        """``available`` is inactive + free: file cache that is active counts as used."""
        pages, size = facts["vm_stat"], facts["page_bytes"]
        total = int(facts["sysctl"]["hw.memsize"])
        free, active, inactive, wired, speculative = (
            pages[name] * size for name in ("free", "active", "inactive", "wired down", "speculative")
        )
        available = inactive + free
        percent = round(100 * (total - available) / total, 1)
        return Memory(total, available, percent, active + wired, free - speculative, active, inactive, wired)

    def swap() -> Swap:
        total, used = facts["swap_total_bytes"], facts["swap_used_bytes"]
        return Swap(total, used, total - used, round(100 * used / total, 1) if total else 0, 0, 0)

    def refused(*_args: object, **_named: object) -> None:
        raise psutil.AccessDenied

    exe, created = platform.exe, platform.create_time

    def executable(one: Any) -> str:  # noqa: ANN401
        """macOS knows no name of a file that is gone. Source: psutil 7.2.2, arch/osx/proc.c, ENOENT."""
        path: str = exe(one)
        return path if os.path.exists(path) else ""  # noqa: PTH110

    def create_time(one: Any, monotonic: bool = False) -> float:  # noqa: ANN401, FBT001, FBT002
        """A step of the clock since this import moves it. Source: _psosx.py, adjust_proc_create_time."""
        began: float = created(one, monotonic)
        return began + (0 if monotonic else facts["clock_step_s"] - step_at_import)

    psutil.virtual_memory, psutil.swap_memory, psutil.net_connections = memory, swap, refused
    psutil.cpu_count = lambda logical=True: int(
        facts["sysctl"]["hw.logicalcpu" if logical else "hw.physicalcpu"]
    )
    platform.exe, platform.create_time = executable, create_time
    for name in ("rlimit", "ionice", "cpu_affinity", "cpu_num", "io_counters", "memory_maps"):
        if hasattr(process, name):
            delattr(process, name)
