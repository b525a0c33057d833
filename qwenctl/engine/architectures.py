"""Say whether a llama-server knows an architecture, before it is started.

No option of it lists them. Its library holds each name as a text that ends in a zero byte, so the names are
looked for there. Source: llama.cpp b11434, ``LLM_ARCH_NAMES`` in src/llama-arch.cpp. Where the library cannot
be found, nobody knows: then the server's own log says it (supervise/crash_texts.py).
"""

import mmap
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from qwenctl.engine.program_files import SCRIPT, bundled_library

COMMON = ("llama", "qwen2", "gemma3", "deepseek2", "mamba")
"""Names that every llama.cpp of the last years knows: the file that holds them all holds the table."""


def knows(server: Path, architecture: str) -> bool | None:
    """Return whether this llama-server can load models of the architecture; None if that can't be known."""
    for path in _candidates(server.resolve()):
        try:
            found = path.stat()
            known = _table(path, found.st_size, found.st_mtime_ns, architecture)
        except (OSError, ValueError):  # unreadable, or empty
            continue
        if known is not None:
            return known
    return None


@lru_cache(maxsize=64)
def _table(path: Path, size: int, changed_ns: int, architecture: str) -> bool | None:
    """Return whether the file's table holds the name; None without a table. Looked up once for each file."""
    del size, changed_ns
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if all(_holds(content, name) for name in COMMON):
            return _holds(content, architecture)
    return None


def _candidates(server: Path) -> Iterator[Path]:
    """Yield the files that may hold the table: libraries beside the server or in ../lib, then the server."""
    if server.name == SCRIPT and (library := bundled_library()):
        yield library
    for folder in (server.parent, server.parent.parent / "lib"):
        yield from sorted(folder.glob("libllama.so*"))[:1]
        yield from sorted(folder.glob("libllama*.dylib"))[:1]
    yield server


def _holds(content: mmap.mmap, name: str) -> bool:
    return content.find(name.encode() + b"\0") >= 0
