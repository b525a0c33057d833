"""The models on a disk: which files make one, and what a person types for it. Pure: no I/O."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from qwenctl.model.gguf_name import quant_in, read_name, shards
from qwenctl.model.name import quant_key

Origin = Literal["qwenctl", "package", "hub", "llama.cpp", "LM Studio", "Ollama", "folder"]
Use = Literal["served", "wanted"]
NOT_FOR_CHAT = ("adapter", "mmproj", "imatrix", "vocab", "clip")
"""Types of a file that is no model; "clip" is a projector's architecture. Source: gguf-py, GGUFType."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the first keys of a file say."""

    architecture: str | None
    type: str | None
    quant: str | None = None


@dataclass(frozen=True, slots=True)
class FileOnDisk:
    """A file: the path by which it is opened, where its bytes are, and what they take.

    ``links`` counts the names of the bytes: they are free when the last one goes. ``used_at`` is the later
    of the times of reading and writing, as far as the disk keeps them. ``is_link``: the path is a symbolic
    link, and its removal frees nothing.
    """

    path: Path
    real: Path
    bytes: int
    allocated_bytes: int
    inode: tuple[int, int]
    links: int
    used_at: float
    is_link: bool = False


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that may be a model, or a part of one.

    ``root`` is the folder of the program that has it, ``real_root`` the same without symbolic links.
    ``name`` is what its publisher called it. ``label`` is what its program calls it; ``current``: its commit
    is the one that the repository's refs name. ``remover`` is what removes it where qwenctl may not.
    """

    disk: FileOnDisk
    name: str
    origin: Origin
    root: Path
    real_root: Path
    repo: str | None = None
    commit: str | None = None
    current: bool = True
    label: str | None = None
    quant: str | None = None
    architecture: str | None = None
    remover: str | None = None


@dataclass(frozen=True, slots=True)
class LibraryModel:
    """A model that could be served now. ``up`` is what to type after ``qwenctl up``."""

    up: str
    quant: str | None
    files: tuple[FoundFile, ...]
    architecture: str | None = None
    use: Use | None = None

    @property
    def first(self) -> FoundFile:
        """The file that a program opens; the other parts are beside it."""
        return self.files[0]

    @property
    def bytes(self) -> int:
        """Size of all its parts."""
        return sum(file.disk.bytes for file in self.files)

    @property
    def used_at(self) -> float:
        """When one of its parts was last read or written."""
        return max(file.disk.used_at for file in self.files)

    @property
    def inodes(self) -> frozenset[tuple[int, int]]:
        """Its bytes, whatever their names are."""
        return frozenset(file.disk.inode for file in self.files)


def models_of(
    found: Iterable[FoundFile], profiles: Mapping[tuple[str, str], str] | None = None
) -> tuple[LibraryModel, ...]:
    """Return the models among files: parts joined, one of equal commits, nothing that is no model.

    ``profiles`` has what to type for a profile's file, by repository and name.
    """
    groups: dict[tuple[object, ...], dict[str, FoundFile]] = {}
    for file in found:
        name = PurePosixPath(file.name)
        group = (file.origin, file.root, file.repo, file.commit, name.parent, file.label, shards(name.name))
        groups.setdefault(group, {})[name.name] = file
    whole = [
        tuple(parts[name] for name in wanted)
        for (*_, wanted), parts in groups.items()
        if isinstance(wanted, tuple) and all(name in parts for name in wanted) and _is_model(parts)
    ]
    once: dict[tuple[object, ...], tuple[FoundFile, ...]] = {}
    for files in sorted(whole, key=lambda files: (files[0].current, files[0].disk.used_at)):
        inodes = frozenset(file.disk.inode for file in files)
        once[files[0].origin, files[0].root, files[0].repo, inodes] = files  # the current commit comes last
    models = [
        LibraryModel("", files[0].quant or quant_in(files[0].name), files, files[0].architecture)
        for files in once.values()
    ]
    named = [_named(model, models, profiles or {}) for model in models]
    return tuple(sorted(named, key=lambda model: (model.first.origin, model.up.lower())))


def offered(model: LibraryModel, facts: Facts | None) -> LibraryModel | None:
    """Return a model with what its first keys say; None if they say that it is none."""
    if facts is None or facts.type in NOT_FOR_CHAT or facts.architecture in (None, *NOT_FOR_CHAT):
        return None
    return LibraryModel(model.up, model.quant or facts.quant, model.files, facts.architecture, model.use)


def in_use(model: LibraryModel, uses: Mapping[tuple[int, int], Use]) -> LibraryModel:
    """Return a model with what its bytes are used for, under whatever name."""
    found = [uses[inode] for inode in sorted(model.inodes) if inode in uses]
    use = min(found, default=None)  # "served" goes before "wanted"
    return LibraryModel(model.up, model.quant, model.files, model.architecture, use)


def find_model(models: Iterable[LibraryModel], wanted: str) -> tuple[LibraryModel, ...]:
    """Return the models that a person means by what ``up`` takes, a path, a label or a file's name."""
    models, path, key = tuple(models), Path(wanted), quant_key(wanted)
    ways: tuple[Callable[[LibraryModel], bool], ...] = (
        lambda model: wanted == model.up,
        lambda model: wanted == model.first.label,
        lambda model: any(path in (file.disk.path, file.disk.real) for file in model.files),
        lambda model: bool(key) and key in {quant_key(name) for name in _spoken(model)},
    )
    return next((found for way in ways if (found := tuple(filter(way, models)))), ())


def _spoken(model: LibraryModel) -> Iterator[str]:
    """Yield what a person may call a model beside its path."""
    first = model.first
    yield model.up
    yield PurePosixPath(first.name).name
    if first.label is not None:
        yield first.label
    if first.repo is not None:
        yield f"{first.repo}:{model.quant or first.name}"


def _named(
    model: LibraryModel, models: Iterable[LibraryModel], profiles: Mapping[tuple[str, str], str]
) -> LibraryModel:
    first = model.first
    return LibraryModel(
        _name(model, models, profiles), model.quant, model.files, first.architecture, model.use
    )


def _name(
    model: LibraryModel, models: Iterable[LibraryModel], profiles: Mapping[tuple[str, str], str]
) -> str:
    first = model.first
    if first.origin in ("qwenctl", "package"):
        return first.label or str(first.disk.path)
    if first.repo is None or first.origin != "hub":
        return shlex.join((str(first.disk.path),))
    if (profile := profiles.get((first.repo, first.name))) is not None and first.current:
        return profile
    alike = [
        other
        for other in models
        if other.first.repo == first.repo and other.quant == model.quant and other.first.origin == "hub"
    ]
    here = [other for other in alike if other.first.commit == first.commit]
    what = model.quant if model.quant is not None and len(here) == 1 else first.name
    return f"{first.repo}:{what}" if first.current else f"{first.repo}:{what}@{first.commit}"


def _is_model(parts: Mapping[str, FoundFile]) -> bool:
    for file in parts.values():
        read = read_name(file.name)
        if file.origin != "Ollama" and (read is None or read.kind not in ("model", "mtp")):
            return False
    return True
