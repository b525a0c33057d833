"""Read where programs keep models: the hub's cache, llama.cpp's, LM Studio's, Ollama's, and a folder.

Their tables and names may say anything. What they name must lie in their own folder.
"""

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from qwenctl.model.library import FoundFile, Origin
from qwenctl.model.library_files import look_at, read_small, walk

DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
COMMIT = re.compile(r"[0-9a-f]{40}")
NAME = re.compile(r"(?=.*\w)[\w.-]{1,128}")
MODEL_LAYER = "application/vnd.ollama.image.model"
OLLAMA_HUB, OLLAMA_LIBRARY = "registry.ollama.ai", "library"
"""The parts of a name that Ollama leaves out when it shows it."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """What was found, and what could not be read."""

    files: tuple[FoundFile, ...]
    notes: tuple[str, ...] = ()


def joined(several: Iterable[Scanned]) -> Scanned:
    """Return all of them as one."""
    scanned = tuple(several)
    return Scanned(
        tuple(file for one in scanned for file in one.files),
        tuple(dict.fromkeys(note for one in scanned for note in one.notes)),
    )


def scan_hub(root: Path, origin: Origin = "hub") -> Scanned:
    """Return the GGUF files in the snapshots of a hub cache, by repository and commit."""
    files: list[FoundFile] = []
    notes: list[str] = []
    for folder in sorted(root.glob("models--*--*")):
        owner, _, name = folder.name.removeprefix("models--").partition("--")
        if not (NAME.fullmatch(owner) and NAME.fullmatch(name)):
            continue
        repo = f"{owner}/{name}"
        current = _referenced(folder)
        walked = walk(folder / "snapshots")
        notes.extend(walked.notes)
        for path in walked.files:
            commit, *rest = path.relative_to(folder / "snapshots").parts
            if not COMMIT.fullmatch(commit) or not rest:
                continue
            is_current = commit in current or not current
            files.extend(
                _found(path, "/".join(rest), origin, root, repo=repo, commit=commit, current=is_current)
            )
    return Scanned(tuple(files), tuple(notes))


def scan_llama_cpp(root: Path) -> Scanned:
    """Return what ``llama-server -hf`` of older versions left: files side by side, tables that name them.

    A newer version keeps the hub's layout in the folder that LLAMA_CACHE names.
    """
    walked = walk(root, depth=0)
    repos = dict(_manifest_names(walked.files))
    files = [
        replace(found, repo=repos.get(path.name))
        for path in walked.files
        for found in _found(path, path.name, "llama.cpp", root)
    ]
    return joined((Scanned(tuple(files), walked.notes), scan_hub(root)))


def scan_folder(root: Path, origin: Origin = "folder") -> Scanned:
    """Return the GGUF files in a folder: LM Studio's has OWNER/REPO/FILE, a person's own any."""
    walked = walk(root)
    files: list[FoundFile] = []
    for path in walked.files:
        parts = path.relative_to(root).parts
        repo = "/".join(parts[:2]) if origin == "LM Studio" and len(parts) >= 3 else None
        name = "/".join(parts[2:]) if repo else "/".join(parts)
        remover = f"rm {shlex.quote(str(path))}" if origin == "folder" else None
        files.extend(replace(found, remover=remover) for found in _found(path, name, origin, root, repo=repo))
    return Scanned(tuple(files), walked.notes)


def scan_ollama(root: Path) -> Scanned:
    """Return the models that Ollama's manifests name: manifests/HOST/OWNER/MODEL/TAG to blobs/sha256-HASH."""
    walked = walk(root / "manifests")
    files: list[FoundFile] = []
    notes = list(walked.notes)
    for path in walked.files:
        parts = path.relative_to(root / "manifests").parts
        if len(parts) != 4 or not all(NAME.fullmatch(part) for part in parts):
            continue
        manifest = _table(path)
        layers = [layer for layer in _list(manifest.get("layers")) if layer.get("mediaType") == MODEL_LAYER]
        digests = [match[1] for layer in layers if (match := DIGEST.fullmatch(str(layer.get("digest"))))]
        if len(layers) != 1 or len(digests) != 1:
            continue  # of several files, or a name that could lead out of the folder
        config = _config(root, manifest)
        label = _ollama_name(parts)
        for found in _found(root / "blobs" / f"sha256-{digests[0]}", f"sha256-{digests[0]}", "Ollama", root):
            quant, family = config.get("file_type"), config.get("model_family")
            files.append(
                replace(
                    found,
                    label=label,
                    remover=f"ollama rm {label}",
                    quant=quant if isinstance(quant, str) and NAME.fullmatch(quant) else None,
                    architecture=family if isinstance(family, str) and NAME.fullmatch(family) else None,
                )
            )
    return Scanned(tuple(files), tuple(notes))


def _found(
    path: Path,
    name: str,
    origin: Origin,
    root: Path,
    *,
    repo: str | None = None,
    commit: str | None = None,
    current: bool = True,
) -> Iterator[FoundFile]:
    """Yield a file if it is there and, by its name, a GGUF file. Ollama's have no names."""
    if origin != "Ollama" and not name.lower().endswith(".gguf"):
        return
    disk = look_at(path)
    if disk is not None:
        yield FoundFile(disk, name, origin, root, root.resolve(), repo, commit, current)


def links_in(root: Path, repo: str) -> tuple[FoundFile, ...]:
    """Return every link of every commit of a repository, whatever kind of file it names."""
    snapshots = root / f"models--{repo.replace('/', '--')}" / "snapshots"
    found = []
    for path in walk(snapshots).files:
        commit, *rest = path.relative_to(snapshots).parts
        disk = look_at(path)
        if disk is not None and rest:
            found.append(FoundFile(disk, "/".join(rest), "hub", root, root.resolve(), repo, commit))
    return tuple(found)


def _referenced(folder: Path) -> frozenset[str]:
    """Return the commits that a repository's refs name; that of ``main`` alone where it is there."""
    commits = {path.name: read_small(path).decode(errors="replace").strip() for path in _refs(folder)}
    wanted = [commits["main"]] if "main" in commits else list(commits.values())
    return frozenset(commit for commit in wanted if COMMIT.fullmatch(commit))


def _refs(folder: Path) -> tuple[Path, ...]:
    return walk(folder / "refs").files


def _manifest_names(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Yield file names with their repositories from ``manifest=OWNER=REPO=TAG.json``."""
    for path in paths:
        parts = path.name.split("=")
        if len(parts) != 4 or parts[0] != "manifest" or not all(NAME.fullmatch(part) for part in parts[1:3]):
            continue
        file = _table(path).get("ggufFile")
        name = file.get("rfilename") if isinstance(file, dict) else None
        if isinstance(name, str):
            yield f"{parts[1]}_{parts[2]}_{name.replace('/', '_')}", f"{parts[1]}/{parts[2]}"


def _config(root: Path, manifest: dict[str, object]) -> dict[str, object]:
    config = manifest.get("config")
    digest = DIGEST.fullmatch(str(config.get("digest"))) if isinstance(config, dict) else None
    return _table(root / "blobs" / f"sha256-{digest[1]}") if digest else {}


def _ollama_name(parts: tuple[str, ...]) -> str:
    host, owner, model, tag = parts
    if host != OLLAMA_HUB:
        return f"{host}/{owner}/{model}:{tag}"
    return f"{model}:{tag}" if owner == OLLAMA_LIBRARY else f"{owner}/{model}:{tag}"


def _table(path: Path) -> dict[str, object]:
    try:
        value = json.loads(read_small(path))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
