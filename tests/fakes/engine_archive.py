"""Archives of engines as releases have them, whose llama-server is a script that starts the bundled one."""

import gzip
import io
import platform
import random
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORKS = f"""#!/bin/sh
PYTHONPATH='{ROOT}' exec '{sys.executable}' -m qwenctl.engine.bundled "$@"
"""
"""A llama-server that works, as far as the bundled one does."""
QUICK = (
    (ROOT / "tests/fakes/llama_server.py")
    .read_text(encoding="utf-8")
    .replace("#!/usr/bin/env python3", f"#!{sys.executable}", 1)
)
"""A stand-in that passes the smoke test in a tenth of the time. It reads ``help.txt`` beside itself."""
HELP = (ROOT / "tests/engine/help/b11434.txt").read_bytes()
HELP_OF_ANOTHER = (ROOT / "tests/engine/help/newer.txt").read_bytes()
"""It has what every command line has, but no --slot-save-path."""
MISSING_LIBRARY = """#!/bin/sh
echo "$0: error while loading shared libraries: libggml-base.so: cannot open shared object file" >&2
exit 127
"""
WRONG_GLIBC = """#!/bin/sh
echo "$0: /lib/x86_64-linux-gnu/libc.so.6: version \\`GLIBC_2.38' not found (required by $0)" >&2
exit 1
"""
SIGILL = """#!/bin/sh
kill -ILL $$
"""
NO_FLAGS = """#!/bin/sh
case "$1" in
    --version) echo "version: 11500 (abc)" >&2 ;;
    --help) echo "usage: something else"; echo "-h, --help  show this" ;;
    *) exit 1 ;;
esac
"""
DIES_ON_THE_MODEL = f"""#!/bin/sh
case "$*" in
    *--version* | *--help* | *--list-devices* | *tiny.gguf*) ;;
    *) echo "error: cannot load the model on this card" >&2; exit 1 ;;
esac
PYTHONPATH='{ROOT}' exec '{sys.executable}' -m qwenctl.engine.bundled "$@"
"""
"""Passes every test that needs no real model."""
LINKS = {"libllama.so": "libllama.so.0", "libllama.so.0": "libllama.so.0.9.1"}


def asset_name(tag: str, kind: str = "") -> str:
    """The name that a release gives the build for this machine."""
    arch = "arm64" if platform.machine() in ("aarch64", "arm64") else "x64"
    system = "macos" if sys.platform == "darwin" else "ubuntu"
    return f"llama-{tag}-bin-{system}{f'-{kind}' if kind else ''}-{arch}.tar.gz"


def engine_archive(
    tag: str,
    program: str = WORKS,
    *,
    filler: int = 0,
    zeros: int = 0,
    files: int = 0,
    help_text: bytes = HELP,
) -> bytes:
    """An archive with one top folder, a program, libraries and links.

    ``filler`` are bytes that gzip cannot make smaller, ``zeros`` bytes that it can; ``files`` are small ones.
    """
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        _folder(tar, f"llama-{tag}")
        add(tar, f"llama-{tag}/llama-server", program.encode(), 0o755)
        add(tar, f"llama-{tag}/LICENSE", tag.encode())
        add(tar, f"llama-{tag}/help.txt", help_text)
        add(tar, f"llama-{tag}/libllama.so.0.9.1", b"a library", 0o755)
        for name, target in LINKS.items():
            link(tar, f"llama-{tag}/{name}", target)
        if filler:
            add(tar, f"llama-{tag}/libggml-filler.so", noise(filler))
        for number in range(files):
            add(tar, f"llama-{tag}/{number}.txt", b"x")
        if zeros:
            add(tar, f"llama-{tag}/libggml-zeros.so", bytes(zeros))
    return gzip.compress(content.getvalue(), compresslevel=1, mtime=0)  # the same bytes at any time


def runtime_archive(tag: str, kind: str) -> bytes:
    """The archive of CUDA's runtime libraries."""
    content = io.BytesIO()
    top = f"cudart-llama-{tag}-bin-ubuntu-{kind}-x64"
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        _folder(tar, top)
        add(tar, f"{top}/libcudart.so.13", b"cuda", 0o755)
        add(tar, f"{top}/libcublas.so.13", b"blas", 0o755)
    return content.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


def link(tar: tarfile.TarFile, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    tar.addfile(info)


def noise(size: int) -> bytes:
    """Bytes that gzip cannot make smaller; the same ones every time."""
    return random.Random(size).randbytes(size)


def _folder(tar: tarfile.TarFile, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    tar.addfile(info)
