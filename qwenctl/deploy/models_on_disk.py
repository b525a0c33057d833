"""The models on this disk: qwenctl's, and those of the hub's cache, llama.cpp, LM Studio and Ollama."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from qwenctl import paths
from qwenctl.deploy.models_in_use import models_in_use
from qwenctl.errors import ProfileError
from qwenctl.fetch.hub import default_hub
from qwenctl.fetch.packaged import packaged_path
from qwenctl.model.library import FoundFile, LibraryModel, Use, in_use, models_of, offered
from qwenctl.model.library_files import facts_of, look_at
from qwenctl.model.library_layouts import (
    Scanned,
    joined,
    scan_folder,
    scan_hub,
    scan_llama_cpp,
    scan_ollama,
)
from qwenctl.model.profile import Profile
from qwenctl.model.toml import find_profiles, read_profile


@dataclass(frozen=True, slots=True)
class Library:
    """The models, and what could not be read."""

    models: tuple[LibraryModel, ...]
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """What they take together; bytes of two names once."""
        sizes = {file.disk.inode: file.disk.bytes for model in self.models for file in model.files}
        return sum(sizes.values())


def library(folder: Path, config: Path | None = None, extra: tuple[Path, ...] = ()) -> Library:
    """Return what could be served now.

    ``folder`` is the daemon's; ``extra`` are folders of a person's own.
    """
    scanned = _scan(extra)
    used = _used(models_in_use(folder, config).files)
    models = []
    for model in models_of(scanned.files, dict(_profile_names())):
        shown = offered(model, facts_of(model.first.disk.real))
        if shown is not None:
            models.append(in_use(shown, used))
    return Library(tuple(models), scanned.notes)


def _scan(extra: tuple[Path, ...]) -> Scanned:
    """Look into each folder once, though two programs may be told to use the same."""
    folders = paths.model_folders()
    hub = default_hub(offline=True).cache_dir
    seen: set[Path] = set()

    def new(root: Path) -> bool:
        before = len(seen)
        seen.add(root.resolve())
        return len(seen) > before

    return joined(
        [
            _demo(),
            _packaged(),
            *(scan_hub(root) for root in (hub,) if new(root)),
            *(scan_llama_cpp(root) for root in folders.llama_cpp if new(root)),
            *(scan_folder(root, "LM Studio") for root in folders.lm_studio if new(root)),
            *(scan_ollama(root) for root in folders.ollama if new(root)),
            *(scan_folder(root.absolute()) for root in extra if new(root)),
        ]
    )


def _demo() -> Scanned:
    """Return the models that qwenctl makes itself, with the names of their profiles."""
    found = scan_folder(paths.cache_dir() / "demo", "qwenctl")
    return Scanned(
        tuple(replace(file, label=Path(file.name).stem.lower()) for file in found.files), found.notes
    )


def _packaged() -> Scanned:
    """Return the models that installed Python packages carry, by the names of their profiles."""
    files = []
    for profile in _profiles():
        for quant in profile.quants:
            path = packaged_path(quant)
            if path is None or quant.package is None or (disk := look_at(path)) is None:
                continue
            name = profile.name if len(profile.quants) == 1 else f"{profile.name} --quant {quant.name}"
            remover = f"pip uninstall {quant.package.distribution.split('==')[0]}"
            folder = path.parent
            files.append(
                FoundFile(disk, path.name, "package", folder, folder.resolve(), label=name, remover=remover)
            )
    return Scanned(tuple(files))


def _profile_names() -> Iterator[tuple[tuple[str, str], str]]:
    """Yield what to type for each file that a profile lists, by repository and name."""
    for profile in _profiles():
        if profile.hub is None:
            continue
        for quant in profile.quants:
            for file in quant.files:
                yield (profile.hub.repo, file.name), f"{profile.name} --quant {quant.name}"


def _profiles() -> Iterator[Profile]:
    """Yield the profiles that can be read."""
    for found in find_profiles(paths.data_root() / "profiles", paths.config_dir() / "profiles"):
        with contextlib.suppress(ProfileError):
            yield read_profile(found.path)


def _used(files: dict[Path, Use]) -> dict[tuple[int, int], Use]:
    used: dict[tuple[int, int], Use] = {}
    for path, use in files.items():
        try:
            found = path.stat()
        except OSError:
            continue
        used[found.st_dev, found.st_ino] = use
    return used
