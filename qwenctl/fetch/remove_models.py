"""Remove models from this disk: what was decided, after a last look, and nothing outside their folders."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from qwenctl.errors import FetchError
from qwenctl.fetch.cache import Lock
from qwenctl.fetch.disk import cannot
from qwenctl.fetch.prune import forget_files
from qwenctl.model.library import FoundFile, LibraryModel
from qwenctl.model.library_layouts import links_in
from qwenctl.model.library_removal import Doomed, Removal, plan_removal, repository_folder

SIDECARS = (".json", ".etag")
"""What older versions of llama.cpp keep beside a download. Source: llama.cpp b4000, common/common.cpp."""


def removal_of(models: Iterable[LibraryModel]) -> Removal:
    """Return what the removal of these models would take. Looks at the disk, changes nothing."""
    models = tuple(models)
    linked: dict[Path, tuple[FoundFile, ...]] = {}
    beside: list[Doomed] = []
    for model in models:
        folder = repository_folder(model.first)
        if folder is not None:
            linked[folder] = links_in(model.first.root, model.first.repo or "")
        elif model.first.origin == "llama.cpp":
            beside.extend(_sidecars(model))
    return plan_removal(models, linked, beside)


def remove_models(models: Iterable[LibraryModel], removal: Removal, state_dir: Path) -> int:
    """Remove what was decided and return the bytes that are free now. Blocks.

    Raises:
        FetchError: a file is being downloaded, changed since it was looked at, or cannot be removed. What was
            removed before that stays removed.
    """
    models = tuple(models)
    with contextlib.ExitStack() as held:
        for path in _locks(models):
            lock = Lock(path)
            if not lock.take():
                raise FetchError(f"cannot remove {path.stem[:12]}: it is being downloaded or checked")
            held.callback(lock.release)
        try:
            for doomed in removal.paths:
                _remove(doomed)
        finally:
            gone = {doomed.path for doomed in removal.paths if not _is_there(doomed.path)}
            forget_files(state_dir, gone)
            _remove_empty_folders(removal)
    return removal.freed_bytes


def _remove(doomed: Doomed) -> None:
    """Remove one path, if its folder is in its program's and it is what it was."""
    path, root = doomed.path, doomed.root.resolve()
    try:
        if not path.parent.resolve().is_relative_to(root):
            raise FetchError(f"cannot remove {path}: its folder is outside {doomed.root}")
        found = path.lstat()
        if doomed.inode is not None and (found.st_dev, found.st_ino) != doomed.inode:
            raise FetchError(f"cannot remove {path}: it changed meanwhile", hint="run it again")
        if doomed.inode is None and not path.is_symlink():
            raise FetchError(f"cannot remove {path}: it was a link and is none now", hint="run it again")
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot("remove", path, error) from error


def _locks(models: tuple[LibraryModel, ...]) -> Iterator[Path]:
    """Yield the lock of each blob of the hub's cache, the one that everybody takes who writes it."""
    names = {
        (folder.parent / ".locks" / folder.name / f"{file.disk.real.name}.lock")
        for model in models
        if (folder := repository_folder(model.first)) is not None
        for file in model.files
        if file.disk.is_link
    }
    yield from sorted(names)


def _sidecars(model: LibraryModel) -> Iterator[Doomed]:
    """Yield the tables of older llama.cpp versions that name a file: without it they mislead."""
    for file in model.files:
        path = file.disk.path
        tables = [path.with_name(f"{path.name}{suffix}") for suffix in SIDECARS]
        if file.repo is not None:
            owner, repo = file.repo.split("/")
            tables += sorted(file.root.glob(f"manifest={owner}={repo}={model.quant or '*'}.json"))
        for table in tables:
            with contextlib.suppress(OSError):
                found = table.lstat()
                if not table.is_symlink():
                    yield Doomed(table, file.root, (found.st_dev, found.st_ino))


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _remove_empty_folders(removal: Removal) -> None:
    """Remove the folders that are empty now, up to the program's own."""
    for doomed in removal.paths:
        for folder in doomed.path.parents:
            if folder == doomed.root or not folder.is_relative_to(doomed.root):
                break
            try:
                folder.rmdir()
            except OSError:  # not empty
                break
