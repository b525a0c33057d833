"""Judge a profile of sandbox-exec: what it allows, and what a Python needs of it at its start.

It reads the forms ``allow``, ``deny``, ``literal``, ``subpath``, ``regex``, ``require-any``, ``require-all``
and ``require-not`` over paths. The last rule that matches decides. Every other filter (``target``,
``sysctl-name``, ...) is taken to match.

It cannot judge: which operations a kernel knows, rules about anything but files, the order in which macOS
resolves a path, extensions, and what a program opens after its start. Source of the language: sandbox-exec(1)
and the profiles in /System/Library/Sandbox/Profiles; of "the last match decides": the same.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

Form = str | list["Form"]
NOT_IN_DEFAULT = ("file-map-executable", "process-info*", "nvram*", "iokit-get-properties")
"""What ``(deny default)`` leaves allowed. Source: Firefox's SandboxPolicyContent.h."""
CACHE = "/System/Volumes/Preboot/Cryptexes/OS/System/Library/dyld/dyld_shared_cache_arm64e"
"""All libraries of the system, on macOS 13 and later. Source: NixOS/nix #5888, dyld's own paths."""


class Denied(Exception):  # noqa: N818  it is what macOS says
    """An operation on a path that a profile does not allow."""

    def __init__(self, operation: str, path: str) -> None:
        super().__init__(f"{operation} {path}")
        self.operation, self.path = operation, path


class Rule(NamedTuple):
    """One form: what is done with which operations, where."""

    allows: bool
    operations: tuple[str, ...]
    filters: tuple[Form, ...]


def rules(profile: str) -> list[Rule]:
    """Return the rules of a profile.

    Raises:
        ValueError: it cannot be read.
    """
    words = re.findall(r'"(?:[^"\\]|\\.)*"|#"[^"]*"|[()]|[^\s()"]+', re.sub(r";[^\n]*", "", profile))
    forms, found = iter(words), []
    for word in forms:
        if word != "(":
            raise ValueError(f"a profile holds forms, not {word}")
        form = _form(forms)
        if form[0] in ("allow", "deny"):
            operations = tuple(each for each in form[1:] if isinstance(each, str))
            filters = tuple(each for each in form[1:] if not isinstance(each, str) and each[0] != "with")
            found.append(Rule(form[0] == "allow", operations, filters))
        elif form[0] not in ("version", "debug", "import", "define"):
            raise ValueError(f"unbound variable: {form[0]}")
    return found


def allowed(known: list[Rule], operation: str, path: str) -> bool:
    """Return whether an operation on a canonical path is allowed."""
    verdict = any(_names(each, operation) for each in NOT_IN_DEFAULT)
    for rule in known:
        if not any(_names(each, operation) for each in rule.operations):
            continue
        if not rule.filters or any(_matches(each, path) for each in rule.filters):
            verdict = rule.allows
    return verdict


def look(known: list[Rule], path: str, readlink: Callable[[str], str | None]) -> str:
    """Go along a path as the kernel does: each part is looked at, each symlink read. Return the real path.

    Raises:
        Denied: a part of it may not be looked at.
    """
    here, left, links = "/", [part for part in path.split("/") if part], 0
    while left:
        part = left.pop(0)
        there = here.rpartition("/")[0] or "/" if part == ".." else f"{here.rstrip('/')}/{part}"
        _ask(known, "file-read-metadata", there)
        target = readlink(there)
        if target is None:
            here = there
            continue
        links += 1
        if links > 32:
            raise Denied("too many symlinks", path)
        here = "/" if target.startswith("/") else here
        left = [each for each in target.split("/") if each] + left
    return here


def begin(known: list[Rule], program: str, readlink: Callable[[str], str | None]) -> None:
    """Do what the kernel and dyld of macOS 26 do before a program's first line.

    Raises:
        Denied: the program is ended by SIGABRT, without a word. Source: ai-jail #77.
    """
    for operation, path in (
        ("file-read-data", "/"),
        ("file-read-data", CACHE),
        ("file-map-executable", CACHE),
        ("file-map-executable", "/usr/lib/dyld"),
        ("file-map-executable", "/usr/lib/libSystem.B.dylib"),
    ):
        _ask(known, operation, path)
    load(known, program, readlink)


def load(known: list[Rule], path: str, readlink: Callable[[str], str | None]) -> None:
    """Map a program or a library.

    Raises:
        Denied: it may not be read or mapped.
    """
    real = look(known, path, readlink)
    for operation in ("file-read-data", "file-map-executable"):
        _ask(known, operation, real)


def read(known: list[Rule], path: str, readlink: Callable[[str], str | None]) -> None:
    """Read a file.

    Raises:
        Denied: it may not be read.
    """
    _ask(known, "file-read-data", look(known, path, readlink))


def _ask(known: list[Rule], operation: str, path: str) -> None:
    if not allowed(known, operation, path):
        raise Denied(operation, path)


def _names(rule: str, operation: str) -> bool:
    if rule == "default":
        return not any(_names(each, operation) for each in NOT_IN_DEFAULT)
    return rule == operation or (rule.endswith("*") and operation.startswith(rule[:-1]))


def _matches(form: Form, path: str) -> bool:
    if isinstance(form, str):
        return True
    word, rest = form[0], form[1:]
    if word == "literal":
        return path == _text(rest[0])
    if word == "subpath":
        folder = _text(rest[0])
        return path == folder or path.startswith(f"{folder.rstrip('/')}/")
    if word == "regex":
        return any(re.search(_text(each), path) for each in rest)
    if word == "require-all":
        return all(_matches(each, path) for each in rest)
    if word == "require-any":
        return any(_matches(each, path) for each in rest)
    if word == "require-not":
        return not _matches(rest[0], path)
    return True


def _text(form: Form) -> str:
    assert isinstance(form, str)
    if form.startswith("#"):
        return form[2:-1]
    return re.sub(r"\\(.)", r"\1", form[1:-1])


def _form(words: Iterator[str]) -> list[Form]:
    form: list[Form] = []
    for word in words:
        if word == ")":
            if not form:
                raise ValueError("an empty form")
            return form
        form.append(_form(words) if word == "(" else word)
    raise ValueError("a form without its end")
