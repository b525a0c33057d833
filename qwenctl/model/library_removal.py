"""Decide what the removal of models takes off a disk, and what that frees. Pure: no I/O.

Bytes are free when their last name goes. In the hub's cache the names are links of commits to a blob; a blob
stays while a commit of another model links to it. Elsewhere a hard link may be a second name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from qwenctl.errors import QwenctlError
from qwenctl.model.library import FoundFile, LibraryModel

IN_USE = {
    "served": ("it is served now", "qwenctl down, or qwenctl up another model first"),
    "wanted": ("the settings name it: it is what qwenctl up serves next", "qwenctl up another model first"),
}
KEPT = {
    "Ollama": "it is Ollama's",
    "package": "it belongs to a Python package",
    "folder": "it is in a folder of your own, not in a program's cache",
}
"""Whose models stay, and why."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """A path to remove: a link, or the last name of bytes that had this inode when they were looked at."""

    path: Path
    root: Path
    inode: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Removal:
    """What goes, links before what they name, and the bytes that are free then."""

    paths: tuple[Doomed, ...]
    freed_bytes: int


def refusal_of(model: LibraryModel) -> QwenctlError | None:
    """Return why a model is not removed here, None if it is.

    Ollama keeps one blob for many names and removes blobs itself: only its own command leaves it whole. A
    folder that a person named holds files that no program manages, so that no mistake there could be undone.
    A package that lacks its file is broken.
    """
    if model.use is not None:
        why, hint = IN_USE[model.use]
        return QwenctlError(f"cannot remove {model.up}: {why}", hint=hint)
    first = model.first
    if first.origin not in KEPT:
        return None
    return QwenctlError(f"cannot remove {first.label or model.up}: {KEPT[first.origin]}", hint=first.remover)


def plan_removal(
    models: Iterable[LibraryModel],
    linked: Mapping[Path, tuple[FoundFile, ...]],
    beside: Iterable[Doomed] = (),
) -> Removal:
    """Return what the removal of models takes.

    ``linked`` has every link of every commit, by the folder of a repository; ``beside`` are tables that only
    make sense with a model.
    """
    models = tuple(models)
    links: dict[Path, Doomed] = {}
    files: dict[Path, FoundFile] = {}
    for model in models:
        folder = repository_folder(model.first)
        if folder is None:
            for file in model.files:
                if file.disk.is_link:
                    links[file.disk.path] = Doomed(file.disk.path, file.root)
                else:
                    files[file.disk.path] = file
            continue
        for file in _links_of(model, linked.get(folder, ())):
            if file.disk.is_link:
                links[file.disk.path] = Doomed(file.disk.path, file.root)
            else:  # a disk without links: the file itself is in the commit's folder
                files[file.disk.path] = file
    for model in models:
        folder = repository_folder(model.first)
        for file in _blobs_of(model, folder, linked.get(folder, ()), links) if folder else ():
            files[file.disk.real] = file
    last = [Doomed(path, file.root, file.disk.inode) for path, file in sorted(files.items())]
    names: dict[tuple[int, int], list[FoundFile]] = {}
    for file in files.values():
        names.setdefault(file.disk.inode, []).append(file)
    freed = sum(gone[0].disk.allocated_bytes for gone in names.values() if len(gone) >= gone[0].disk.links)
    return Removal((*(links[path] for path in sorted(links)), *last, *beside), freed)


def repository_folder(file: FoundFile) -> Path | None:
    """Return the folder of a file's repository in a hub's layout, None for another layout."""
    return file.root / f"models--{file.repo.replace('/', '--')}" if file.repo and file.commit else None


def _links_of(model: LibraryModel, links: tuple[FoundFile, ...]) -> list[FoundFile]:
    """Return the links to a model's bytes, of every commit that has all of them."""
    by_commit: dict[str | None, list[FoundFile]] = {}
    for link in links:
        if link.disk.inode in model.inodes:
            by_commit.setdefault(link.commit, []).append(link)
    return [
        link
        for found in by_commit.values()
        if {link.disk.inode for link in found} == set(model.inodes)
        for link in found
    ]


def _blobs_of(
    model: LibraryModel, folder: Path, links: tuple[FoundFile, ...], gone: Mapping[Path, Doomed]
) -> list[FoundFile]:
    """Return the blobs of a model that no link is left to. What lies elsewhere is not the cache's."""
    return [
        file
        for file in model.files
        if file.disk.is_link
        and file.disk.real.parent == file.real_root / folder.name / "blobs"
        and all(link.disk.path in gone for link in links if link.disk.inode == file.disk.inode)
    ]
