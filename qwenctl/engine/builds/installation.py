"""Install an engine: unpack it beside the others, prove it, and only then let it be seen.

    engines/
      .lock                    one installation at a time
      .new-b11500-cuda-12.8/   while it is unpacked and proved; the next installation removes what a kill left
      b11500-cuda-12.8/        renamed when it is whole, on the disk, and has generated a token

A kill at any point leaves the engines that were there, and which of them is in use. What has been downloaded
is kept for the next try.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from qwenctl.engine.builds.build_names import BACKENDS
from qwenctl.engine.builds.installed_engines import (
    CHOSEN,
    ChosenEngine,
    EngineBuild,
    InstalledEngine,
    choose,
    chosen,
    forgive,
    installed,
    read_engine,
    remove,
    write_build,
)
from qwenctl.engine.builds.release_download import discard
from qwenctl.engine.builds.store_lock import store_error, store_lock
from qwenctl.engine.builds.unpack import ArchiveError, find_program, unpack
from qwenctl.engine.flags import Option
from qwenctl.engine.smoke_test import SmokeResult, smoke_test
from qwenctl.engine.usability import OTHER_BUILD
from qwenctl.errors import NoServerError, QwenctlError
from qwenctl.fetch.disk import sync_folder

NEW = ".new-"
SWEPT = (NEW, ".removed-")
PART = re.compile(rf"\.{re.escape(CHOSEN)}\.(\d+)\.[0-9a-f]+")
"""A file that was to become ``chosen.json``. Source: files.py, replace_bytes."""
OTHER_KIND = (
    "another kind or version may work: qwenctl engine install VERSION --backend B; "
    "or pip install 'qwenctl[engine]'"
)
Prove = Callable[[Path], SmokeResult]
Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class EngineArchive:
    """The files of one engine, downloaded or brought by a person, and what they are.

    ``files`` are the archive and, for CUDA, that of its runtime libraries, which go beside the program.
    ``keep`` says that they are a person's: they stay where they are.
    """

    name: str
    tag: str
    backend: str
    asset: str
    files: tuple[Path, ...]
    sha256: str
    keep: bool = False


def prover(
    cache: Path, backend: str, needed: tuple[Option, ...], stopped: Callable[[], bool] = lambda: False
) -> Prove:
    """Return what proves an engine here: the smoke test, which must show a device of a known backend.

    ``needed`` are the options of the settings: an engine without one of them would not be used.
    """
    expects = backend if backend in BACKENDS else None
    return lambda program: smoke_test(program, cache, expects=expects, needed=needed, stopped=stopped)


def install(
    root: Path, archive: EngineArchive, prove: Prove, on_step: Step, margin_bytes: int = 0
) -> InstalledEngine:
    """Return the engine, installed and proved; nobody uses it yet. One of that name and digest is kept.

    Another one of that name, which may be in use, is kept, too: the new one's name then has its digest.

    Raises:
        StoreBusyError: another process installs one.
        NoServerError: it does not work here; nothing of it is left, nor of the download.
        ArchiveError: the archive is damaged or would do harm; likewise.
        QwenctlError: the disk or the store is at fault; the download is kept for the next try.
    """
    try:
        engine = _install(root, archive, prove, on_step, margin_bytes)
    except (NoServerError, ArchiveError):
        _discard(archive)
        raise
    _discard(archive)
    return engine


def _install(
    root: Path, archive: EngineArchive, prove: Prove, on_step: Step, margin_bytes: int
) -> InstalledEngine:
    with store_lock(root):
        sweep(root)
        name = archive.name
        for name in (archive.name, f"{archive.name}-{archive.sha256[:8]}"):
            found = read_engine(root, name)
            if found is not None and found.build.sha256 == archive.sha256:
                on_step(f"{name} is installed already")
                return found
            if not (root / name).exists():
                break
        hidden = root / f"{NEW}{name}"
        with _hidden(hidden):
            on_step(f"unpacking {archive.asset}")
            program = _unpack(hidden, archive, margin_bytes)
            on_step("trying it: it loads a tiny model and generates a token")
            check_passed(name, prove(program))
            build = EngineBuild(
                archive.tag,
                archive.backend,
                archive.asset,
                archive.sha256,
                program.relative_to(hidden).as_posix(),
            )
            return _publish(root, hidden, name, build)


def check_passed(name: str, result: SmokeResult) -> None:
    """Return if an engine works here.

    Raises:
        NoServerError: it does not; the message names the cause, the hint a way out.
    """
    if (unusable := result.unusable) is not None:
        hint = OTHER_KIND if unusable.hint == OTHER_BUILD else unusable.hint
        raise NoServerError(f"cannot use {name}: {unusable.summary}", hint=hint)


def take(root: Path, name: str) -> ChosenEngine:
    """Use an installed engine from now on. Return which ones were in use before.

    Raises:
        QwenctlError: there is none of that name, or the store cannot be written.
    """
    with store_lock(root):
        before = chosen(root)
        if read_engine(root, name) is None:
            raise QwenctlError(
                f"cannot use engine {name}: it is not installed", hint="qwenctl engine list shows them"
            )
        try:
            forgive(root, name)
            if before.current != name:
                choose(root, ChosenEngine(name, before.current or before.previous))
        except OSError as error:
            raise store_error("write", root, error) from error
    return before


def put_back(root: Path, before: ChosenEngine) -> None:
    """Use the engines again that were in use before.

    Raises:
        QwenctlError: the store cannot be written.
    """
    try:
        choose(root, before)
    except OSError as error:
        raise store_error("write", root, error) from error


def drop(root: Path, names: tuple[str, ...]) -> None:
    """Remove engines.

    Raises:
        QwenctlError: a folder cannot be removed.
    """
    with store_lock(root):
        sweep(root)
        for name in names:
            try:
                remove(root, name)
            except OSError as error:
                raise store_error("remove", root / name, error) from error


def superfluous(root: Path, needed: frozenset[str]) -> tuple[str, ...]:
    """Return the engines that an update leaves over: neither in use, nor the one before, nor ``needed``."""
    kept = chosen(root)
    return tuple(
        each.name
        for each in installed(root)
        if each.name not in (kept.current, kept.previous) and each.name not in needed
    )


def sweep(root: Path) -> None:
    """Remove what a kill left. The caller holds the store's lock, so nobody installs or removes one now.

    Which engine is in use is written without the lock; a file of that is removed once its writer is gone.
    """
    for path in root.iterdir():
        if path.name.startswith(SWEPT):
            shutil.rmtree(path, ignore_errors=True)
        elif (part := PART.fullmatch(path.name)) and not psutil.pid_exists(int(part[1])):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _hidden(folder: Path) -> Iterator[None]:
    """Make the hidden folder, and remove what is left of it whatever happens."""
    try:
        folder.mkdir()
        yield
    except OSError as error:
        raise store_error("write", folder, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(hidden: Path, archive: EngineArchive, margin_bytes: int) -> Path:
    """Unpack the archive, and the others beside its program. Return the program."""
    first, *beside = archive.files
    unpack(first, hidden, margin_bytes)
    program = find_program(hidden)
    program.chmod(0o755)
    for number, path in enumerate(beside):
        folder = hidden / f".beside-{number}"
        unpack(path, folder, margin_bytes)
        for file in folder.rglob("*"):
            if file.is_file() and not (program.parent / file.name).exists():
                file.rename(program.parent / file.name)
        shutil.rmtree(folder)
    return program


def _publish(root: Path, hidden: Path, name: str, build: EngineBuild) -> InstalledEngine:
    """Bring every byte to the disk, then rename: what can be seen is whole, even after a power cut."""
    write_build(hidden, build)
    for folder, _names, files in os.walk(hidden):
        for file in files:
            path = Path(folder) / file
            if not path.is_symlink():
                with path.open("rb") as opened:
                    os.fsync(opened.fileno())
        sync_folder(Path(folder))
    if (root / name).exists():  # it has no readable build.json, so that it is no engine
        remove(root, name)
    hidden.rename(root / name)
    sync_folder(root)
    engine = read_engine(root, name)
    if engine is None:
        raise QwenctlError(f"cannot read {root / name}: it was changed meanwhile")
    return replace(engine, refused=None)


def _discard(archive: EngineArchive) -> None:
    """Remove what was downloaded; a person's own files stay."""
    if not archive.keep:
        for path in archive.files:
            discard(path)
