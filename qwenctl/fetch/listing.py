"""Which files a repository has, and the headers of its models. Asks the hub once; kept on disk after that.

    listings/OWNER--NAME/COMMIT.json       the files at a commit: they never change
    listings/OWNER--NAME/refs.json         the commit that a branch or tag stood for when the hub was asked
    headers/SHA256/NAME                    a header, with a hole to the size of its file

A kept listing is used as it is, like a fetched file: only an update moves to a newer commit. What is planned
is then what is on the disk, with a network or without.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from qwenctl.errors import FetchError
from qwenctl.fetch import cache
from qwenctl.fetch.answers import PassingError
from qwenctl.fetch.clock import FetchEnvironment
from qwenctl.fetch.disk import cannot
from qwenctl.fetch.hub import Hub, check_repo, default_hub, list_files
from qwenctl.fetch.remote_header import bring_headers
from qwenctl.fetch.request import RemoteFile, ResolvedRequest, is_commit
from qwenctl.fetch.resolve import METADATA_TIMEOUT_S, ask_hub
from qwenctl.files import read_json, replace_text, write_json
from qwenctl.model.gguf_header import Header, read_header

WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".onnx", ".mlx", ".npz")


class RepositoryListing(BaseModel):
    """The files of a repository at one commit. ``revision`` is what was asked for."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    repo: str
    revision: str
    commit: str
    files: tuple[RemoteFile, ...]


class ReadListing(NamedTuple):
    """A listing, and what its reader should know: ``warning`` where the hub could not be asked again."""

    listing: RepositoryListing
    warning: str | None = None


class RemoteHeader(NamedTuple):
    """The header of a file of the hub, and the sparse file on this disk that llama.cpp can be asked about."""

    header: Header
    path: Path


async def read_listing(
    repo: str,
    revision: str = "main",
    *,
    folder: Path,
    hub: Hub | None = None,
    environment: FetchEnvironment | None = None,
    update: bool = False,
    sufficient: Callable[[RepositoryListing], bool] = lambda _listing: True,
) -> ReadListing:
    """Return the files of a repository, with at least one GGUF file among them.

    ``folder`` keeps listings. The hub is asked where none is kept, where the kept one is not ``sufficient``
    (a file that somebody names is newer than it), or for an ``update``. If the hub can't be asked then, the
    kept one is returned with a warning, else what the hub's cache on this disk has of it.

    Raises:
        FetchError: there is no such repository, it has no GGUF file, or nothing is kept and the hub is away.
    """
    check_repo(repo)
    hub = hub or default_hub()
    kept = kept_listing(folder, repo, revision)
    if kept is not None and not update and sufficient(kept):
        return ReadListing(kept)
    try:
        listing = await _ask(repo, revision, hub, environment or FetchEnvironment())
    except _OutOfReachError as error:
        if kept is not None:
            return ReadListing(kept, f"{error.message}; its files of an earlier day are used")
        if (here := _in_cache(hub, repo, revision)) is not None:
            return ReadListing(here, f"{error.message}; only its files on this disk are known")
        raise FetchError(error.message, hint=error.hint) from error
    _keep(folder, listing)
    return ReadListing(listing)


async def read_remote_header(
    listing: RepositoryListing,
    files: tuple[RemoteFile, ...],
    *,
    folder: Path,
    hub: Hub | None = None,
    environment: FetchEnvironment | None = None,
) -> tuple[RemoteHeader, ...]:
    """Return the headers of a model's file, or of all parts of a split one, read by range and kept.

    The first part has the keys; the later ones have only tensors. Files that the hub's cache has are read
    there, and ``path`` is then the file itself.

    Raises:
        FetchError: a header is not kept and the hub can't be asked, or a file is no GGUF.
    """
    hub = hub or default_hub()
    place = hub.folder(listing.repo)
    here = {file.name: file for file in cache.files_at(place, listing.commit)}
    if all(here.get(file.name) == file for file in files):
        paths = tuple(cache.snapshot_path(place, listing.commit, file.name) for file in files)
    else:
        resolved = ResolvedRequest(listing.repo, listing.commit, files)
        paths = await bring_headers(resolved, folder, hub, environment or FetchEnvironment())
    return tuple(RemoteHeader(_header_in(path), path) for path in paths)


class _OutOfReachError(FetchError):
    """The hub can't be asked now. What it said before may be used."""


async def _ask(repo: str, revision: str, hub: Hub, environment: FetchEnvironment) -> RepositoryListing:
    if hub.offline:
        raise _OutOfReachError(
            f"cannot list the files of {repo}: qwenctl is offline",
            hint="run it once with a network, or name a file of this disk",
        )
    passing: list[PassingError] = []

    def question() -> tuple[str, tuple[RemoteFile, ...]]:
        try:
            return list_files(hub, repo, revision, METADATA_TIMEOUT_S)
        except PassingError as error:
            passing.append(error)
            raise

    try:
        commit, files = await ask_hub(question, environment)
    except FetchError as error:
        if passing and error.message == passing[-1].message:
            raise _OutOfReachError(error.message, error.hint) from error
        raise
    listing = RepositoryListing(repo=repo, revision=revision, commit=commit, files=files)
    _check_has_models(listing)
    return listing


def _check_has_models(listing: RepositoryListing) -> None:
    names = [file.name.lower() for file in listing.files]
    if any(name.endswith(".gguf") for name in names):
        return
    other = next((suffix for suffix in WEIGHTS if any(name.endswith(suffix) for name in names)), None)
    cause = f"; its weights are {other.removeprefix('.')}" if other else ""
    hint = f"look for {listing.repo}-GGUF, or for another publisher's repository of the same model"
    raise FetchError(f"cannot use repository {listing.repo}: it has no GGUF files{cause}", hint=hint)


def kept_listing(folder: Path, repo: str, revision: str) -> RepositoryListing | None:
    """Return the kept listing of a revision; None without a readable one that is what it should be."""
    place = _place(folder, repo)
    commit = revision if is_commit(revision) else (read_json(place / "refs.json") or {}).get(revision)
    if not isinstance(commit, str) or not is_commit(commit):
        return None
    try:
        listing = RepositoryListing.model_validate_json((place / f"{commit}.json").read_bytes())
    except (OSError, ValidationError):
        return None
    if (listing.repo, listing.commit) != (repo, commit):
        return None
    return listing.model_copy(update={"revision": revision})


def _in_cache(hub: Hub, repo: str, revision: str) -> RepositoryListing | None:
    """Return the files that the hub's cache has of a revision, None if it has no GGUF file."""
    folder = hub.folder(repo)
    commit = cache.read_ref(folder, revision) or cache.read_ref(folder, cache.OWN_REF)
    if commit is None or (is_commit(revision) and commit != revision):
        return None
    files = cache.files_at(folder, commit)
    return RepositoryListing(repo=repo, revision=revision, commit=commit, files=files) if files else None


def _keep(folder: Path, listing: RepositoryListing) -> None:
    place = _place(folder, listing.repo)
    try:
        place.mkdir(parents=True, exist_ok=True)
        replace_text(place / f"{listing.commit}.json", listing.model_dump_json())
        if not is_commit(listing.revision):
            refs = read_json(place / "refs.json") or {}
            write_json(place / "refs.json", refs | {listing.revision: listing.commit})
    except OSError as error:
        raise cannot("write", place, error) from error


def _place(folder: Path, repo: str) -> Path:
    return folder / repo.replace("/", "--")


def _header_in(path: Path) -> Header:
    try:
        with path.open("rb") as file:
            return read_header(file.read)
    except OSError as error:
        raise cannot("read", path, error) from error
