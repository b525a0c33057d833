"""The profile for macOS lets each kind of Python start, and nothing else be read."""

import pytest

from qwenctl.client.sandbox.sandbox_outcome import Outcome
from qwenctl.client.sandbox.seatbelt import MOST_LINKS, profile, python_paths, resolve
from tests.darwin import seatbelt_rules as judge

FOLDER = "/private/var/folders/zz/T/qwenctl-abc"
HOME = "/Users/mac"
VENV = f"{HOME}/qwenctl/bin/python"
CELLAR = "/opt/homebrew/Cellar/python@3.13/3.13.5/Frameworks/Python.framework/Versions/3.13"
ORG = "/Library/Frameworks/Python.framework/Versions/3.13"
UV = f"{HOME}/.local/share/uv/python"
LAYOUTS: dict[str, tuple[dict[str, str], tuple[str, ...], tuple[str, ...]]] = {
    "Homebrew": (
        {
            VENV: "/opt/homebrew/opt/python@3.13/bin/python3.13",
            "/opt/homebrew/opt/python@3.13": "../Cellar/python@3.13/3.13.5",
            "/opt/homebrew/Cellar/python@3.13/3.13.5/bin/python3.13": f"../{CELLAR[39:]}/bin/python3.13",
            "/opt/homebrew/opt/openssl@3": "../Cellar/openssl@3/3.5.0",
        },
        (
            VENV,
            f"{HOME}/qwenctl",
            "/opt/homebrew/opt/python@3.13/Frameworks/Python.framework/Versions/3.13",
            "/opt/homebrew/opt/python@3.13/Frameworks/Python.framework/Versions/3.13/lib/python3.13",
        ),
        (
            f"{CELLAR}/Python",
            f"{CELLAR}/Resources/Python.app/Contents/MacOS/Python",
            "/opt/homebrew/opt/python@3.13/Frameworks/Python.framework/Versions/3.13/lib/python3.13/os.py",
            f"{CELLAR}/lib/python3.13/lib-dynload/_ssl.cpython-313-darwin.so",
            "/opt/homebrew/opt/openssl@3/lib/libssl.3.dylib",
            "/opt/homebrew/etc/openssl@3/openssl.cnf",
        ),
    ),
    "uv": (
        {
            VENV: f"{UV}/cpython-3.13-macos-aarch64-none/bin/python3.13",
            f"{UV}/cpython-3.13-macos-aarch64-none": "cpython-3.13.5-macos-aarch64-none",
        },
        (
            VENV,
            f"{HOME}/qwenctl",
            f"{UV}/cpython-3.13-macos-aarch64-none",
            f"{UV}/cpython-3.13-macos-aarch64-none/lib/python3.13",
        ),
        (
            f"{UV}/cpython-3.13.5-macos-aarch64-none/lib/libpython3.13.dylib",
            f"{UV}/cpython-3.13-macos-aarch64-none/lib/python3.13/os.py",
            "/private/etc/ssl/openssl.cnf",
        ),
    ),
    "python.org": (
        {VENV: "/usr/local/bin/python3.13", "/usr/local/bin/python3.13": f"../../..{ORG}/bin/python3.13"},
        (VENV, f"{HOME}/qwenctl", ORG, f"{ORG}/lib/python3.13"),
        (f"{ORG}/Python", f"{ORG}/lib/python3.13/os.py", f"{ORG}/etc/openssl/openssl.cnf"),
    ),
}
"""Where each kind of Python is: its symlinks, the paths that it names, and files that it opens at its start.

Source: the formula python@3.13 (framework build, opt is a symlink into Cellar); uv's python-build-standalone
folders, omnigent #2743; the installer of python.org, which links /usr/local/bin into /Library/Frameworks.
"""
PRIVATE = (
    f"{HOME}/.ssh/id_ed25519",
    f"{HOME}/Documents/letter.txt",
    f"/System/Volumes/Data{HOME}/.ssh/id_ed25519",
    "/private/etc/master.passwd",
    "/opt/homebrew/var/postgresql@16/base/1",
    "/Library/Keychains/System.keychain",
)


def no_links(_path: str) -> None:
    """Say that a path is no symlink."""


def made(layout: str) -> list[judge.Rule]:
    """Return the rules of the profile for a program in this Python."""
    links, paths, _ = LAYOUTS[layout]
    folders, followed = python_paths(paths, links.get)
    return judge.rules(profile(FOLDER, folders, followed))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_kind_of_python_can_start(layout: str) -> None:
    links, _, opened = LAYOUTS[layout]
    known = made(layout)
    judge.begin(known, VENV, links.get)
    for path in (*opened, f"{HOME}/qwenctl/lib/python3.13/site-packages/x.py", "/usr/share/zoneinfo/UTC"):
        read = judge.load if path.endswith((".dylib", ".so", "/Python")) else judge.read
        read(known, path, links.get)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_of_a_person_can_be_read_and_only_the_folder_written(layout: str) -> None:
    known = made(layout)
    assert [path for path in PRIVATE if judge.allowed(known, "file-read-data", path)] == []
    written = (f"{FOLDER}/out.txt", f"{HOME}/qwenctl/x", "/private/tmp/x", "/opt/homebrew/bin/x", "/dev/null")
    can = [path for path in written if judge.allowed(known, "file-write-data", path)]
    assert can == [f"{FOLDER}/out.txt", "/dev/null"]
    for operation in ("process-fork", "network-outbound", "mach-lookup", "file-write-create"):
        assert not judge.allowed(known, operation, "/tmp/x"), operation


def test_a_profile_without_the_root_aborts_each_program() -> None:
    text = '(version 1)(deny default)(allow process*)(allow file-read* (subpath "/usr") (subpath "/System"))'
    with pytest.raises(judge.Denied, match="file-read-data /"):
        judge.begin(judge.rules(text), "/usr/bin/true", no_links)
    judge.begin(judge.rules(f'{text}(allow file-read* (literal "/"))'), "/usr/bin/true", no_links)


def test_symlinks_are_followed_to_the_end_and_not_for_ever() -> None:
    links = {"/a": "b/c", "/b": "/x/y", "/x/y/c": "../z"}
    assert resolve("/a/file", links.get) == ("/x/z/file", ("/a", "/b", "/x/y/c"))
    assert resolve("/a/../b", no_links) == ("/b", ())
    _, found = resolve("/loop", dict.fromkeys(["/loop"], "/loop").get)
    assert len(found) == MOST_LINKS


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome("exited", 134, " \n", 0.1), "SIGABRT ended it before it printed anything"),
        (Outcome("exited", 137, "", 0.1), "SIGKILL ended it before it printed anything"),
        (Outcome("exited", 128 + 99, "", 0.1), "signal 99 ended it before it printed anything"),
        (Outcome("exited", 71, "", 0.1), "it ended with exit code 71 and printed nothing"),
        (Outcome("time", 137, "", 10.0), "it reached its limit (time) and printed nothing"),
        (Outcome("exited", 1, "Fatal Python error: x\n", 0.1), "Fatal Python error: x"),
    ],
)
def test_what_ended_a_program_is_said_where_it_said_nothing(outcome: Outcome, said: str) -> None:
    assert outcome.said() == said
