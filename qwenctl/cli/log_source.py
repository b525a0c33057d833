"""Read the log of a llama-server for ``explain``: of any size, from any carrier, of the last start alone."""

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from qwenctl.errors import QwenctlError
from qwenctl.files import reason
from qwenctl.supervise.log_lines import LogWatch, parse_line
from qwenctl.supervise.logfile import Tail

CHUNK_BYTES = 1 << 20
MOST_BYTES = 256 << 20
"""A file is read whole up to this size; of a larger one, its first and its last half of this."""
_MAC = re.compile(rb"dyld\[|libc\+\+abi|ggml_metal|/opt/homebrew|\.dylib")
_CARRIED = re.compile(rb'\{"(?:log|[A-Z_]+)":')
"""How a line begins that docker (json-file) or ``journalctl -o json`` wrote."""
_START_KEYS = re.compile(rb"initializing \.\.\.|build(?:: |_info: | = | info)")
_START = re.compile(
    r"srv +llama_server: initializing \.\.\.|build(?:_info)?: b?\d+[ -]|(?:main|print_build_info): build = \d"
    r"|build info\b"
)
"""What a server prints first. Source: llama-server b11434, tools/server/server.cpp; logs of older builds."""
_BEFORE_START = re.compile(
    r"(?:ggml_\w+_init|load_backend|register_backend|register_device): |  Device \d+: "
)
"""What the libraries print before that."""


@dataclass(slots=True)
class LogSource:
    """The last lines of a log, what all lines since the last start show of the server, and its system."""

    tail: Tail
    watch: LogWatch
    system: str

    @classmethod
    def of(cls, file: str) -> "LogSource":
        """Read a file, or the standard input for ``-``.

        Raises:
            QwenctlError: it cannot be read.
        """
        read = cls(Tail(), LogWatch(), sys.platform)
        try:
            for block in _blocks(_chunks(file)):
                read._take(block)
        except OSError as error:
            raise QwenctlError(f"cannot read {file}: {reason(error)}", hint=_hint(file, error)) from error
        read.watch.feed(b"\n")  # the last line may lack its end
        return read

    def _take(self, block: bytes) -> None:
        """Take whole lines. A start of the server ends what was known of the one before it.

        After a client's text nothing in the log shows where a server starts: the text may imitate it.
        """
        if _CARRIED.match(block):
            block = b"".join(map(_carried, block.splitlines(keepends=True)))
        if _MAC.search(block):
            self.system = "darwin"
        start = _last_start(block)
        if start is not None:
            self._feed(block[:start])
            if not self.watch.echoed:
                self.tail, self.watch = Tail(), LogWatch()
            block = block[start:]
        self._feed(block)

    def _feed(self, data: bytes) -> None:
        self.tail.feed(data)
        self.watch.feed(data)


def _last_start(block: bytes) -> int | None:
    """Return where the last start in a block begins, None if there is none."""
    start = None
    for found in _START_KEYS.finditer(block):
        at = block.rfind(b"\n", 0, found.start()) + 1
        if _START.match(_message(block[at : found.end() + 20])):
            start = at
    while start:
        before = block.rfind(b"\n", 0, start - 1) + 1
        if not _BEFORE_START.match(_message(block[before:start])):
            break
        start = before
    return start


def _message(line: bytes) -> str:
    return parse_line(line.decode("utf-8", "replace")).message


def _carried(line: bytes) -> bytes:
    """Return the text in a line of JSON; another line as it is."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return line
    text = record.get("log", record.get("MESSAGE")) if isinstance(record, dict) else None
    if isinstance(text, str):
        return text.encode("utf-8", "replace") + (b"" if "log" in record else b"\n")
    if isinstance(text, list) and all(isinstance(each, int) and 0 <= each < 256 for each in text):
        return bytes(text) + b"\n"  # journald's form of what is no UTF-8
    return line


def _blocks(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Return the same bytes in large blocks. Each ends with a line, unless one line fills it."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        if len(rest) < CHUNK_BYTES:
            continue
        end = rest.rfind(b"\n") + 1 or len(rest)
        yield rest[:end]
        rest = rest[end:]
    if rest:
        yield rest


def _chunks(file: str) -> Iterator[bytes]:
    if file == "-":
        if sys.stdin is not None:  # it is None where it is closed
            yield from iter(lambda: os.read(sys.stdin.fileno(), CHUNK_BYTES), b"")
        return
    with Path(file).open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        if size <= MOST_BYTES:
            yield from _all_of(opened)
            return
        left = MOST_BYTES // 2
        while left > 0 and (data := opened.read(CHUNK_BYTES)):
            left -= len(data)
            yield data
        opened.seek(-MOST_BYTES // 2, os.SEEK_END)
        yield b"\n"
        yield from _all_of(opened)


def _all_of(opened: BinaryIO) -> Iterator[bytes]:
    left = MOST_BYTES
    while left > 0 and (data := opened.read(CHUNK_BYTES)):  # a log may grow while it is read
        left -= len(data)
        yield data


def _hint(file: str, error: OSError) -> str | None:
    if isinstance(error, IsADirectoryError):
        return "name the log itself"
    if isinstance(error, PermissionError):
        return f"sudo cat {file} | qwenctl explain -"
    return (
        "qwenctl logs shows the log of qwenctl's own server" if isinstance(error, FileNotFoundError) else None
    )
