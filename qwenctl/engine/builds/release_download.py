"""Download a file of a release: in ranges, resumable after a kill, its sha256 compared before it is opened.

The bytes are moved as those of model files are (``fetch/transfer.py``). What has arrived lies under the name
and digest of the file, so that a later try for the same bytes goes on where the last one ended.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from qwenctl.engine.builds.release_api import by_hand, refused
from qwenctl.engine.builds.releases import ReleaseAsset
from qwenctl.errors import FetchError
from qwenctl.fetch.clock import FetchEnvironment, in_thread
from qwenctl.fetch.disk import PartialFile, allocated_bytes, cannot, check_space
from qwenctl.fetch.download_url import DownloadUrls, FileSource, connect
from qwenctl.fetch.ranges import RangeJournal
from qwenctl.fetch.request import RemoteFile
from qwenctl.fetch.sha256 import hash_file
from qwenctl.fetch.transfer import Transfer

CONNECTIONS, RANGE_BYTES = 4, 8 * 2**20
SETTING = "XDG_CACHE_HOME"
"""The variable that moves the folder of downloads."""
OnDownload = Callable[[str, int, int], None]
"""Called with a file's name, its bytes that are here, and its size."""


@dataclass(frozen=True, slots=True)
class DownloadedAsset:
    """A file of a release whose digest has been compared."""

    asset: ReleaseAsset
    path: Path
    sha256: str


def expected_digest(asset: ReleaseAsset, given: str | None) -> str:
    """Return the digest that a file must have.

    Raises:
        FetchError: the listing has none and none is given, or the two differ.
    """
    if given is not None and asset.sha256 not in (None, given):
        raise FetchError(
            f"cannot use {asset.name}: the listing says sha256 {asset.sha256}, --sha256 says {given}",
            hint="leave --sha256 out, or check where it comes from",
        )
    if (digest := asset.sha256 or given) is None:
        raise FetchError(
            f"cannot verify {asset.name}: the listing has no sha256 of it",
            hint="give it with --sha256 HEX, from a source that you trust",
        )
    return digest


async def download(
    asset: ReleaseAsset,
    folder: Path,
    environment: FetchEnvironment,
    on_bytes: OnDownload,
    *,
    sha256: str | None = None,
) -> DownloadedAsset:
    """Return the file, verified. The bytes that have arrived are kept when it fails on the way.

    Raises:
        FetchError: the server, the network, the disk failed, or the digest is another one.
    """
    digest = expected_digest(asset, sha256)
    file = RemoteFile(asset.name, asset.bytes, digest)
    part = folder / f"{digest[:16]}-{asset.name}.part"
    journal = RangeJournal(part.with_suffix(".journal"), file, RANGE_BYTES)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if part.exists():
            journal.read()
        missing = max(0, asset.bytes - allocated_bytes(part))
        check_space(folder, missing, environment.margin_bytes, SETTING)
        partial = PartialFile(part, asset.bytes, SETTING)
    except OSError as error:
        raise cannot("write", folder, error, SETTING) from error
    try:
        try:
            journal.open()
        except OSError as error:
            raise cannot("write", journal.path, error, SETTING) from error
        async with connect(environment.transfer_policy, CONNECTIONS) as client:
            links = DownloadUrls(client, _source(asset), file)
            found = await Transfer(
                client,
                links,
                file,
                partial,
                journal,
                CONNECTIONS,
                environment=environment,
                on_bytes=lambda done, _hashing: on_bytes(asset.name, done, asset.bytes),
            ).run()
    except FetchError as error:
        if "network" in (error.hint or ""):
            error.hint = f"{error.hint}; or {by_hand(asset.url.rpartition('/')[0], asset.name)}"
        raise
    finally:
        journal.close()
        partial.close()
    if found != digest:
        discard(part)
        raise FetchError(
            f"cannot verify {asset.name}: its sha256 is {found}, the listing says {digest}",
            hint="the wrong bytes are removed; run it again, through another network if need be",
        )
    return DownloadedAsset(asset, part, digest)


async def check_file(path: Path, digest: str | None) -> str:
    """Return the sha256 of a file that a person brought; compare it where a digest is known.

    Raises:
        FetchError: it cannot be read, or is another one.
    """
    found = await in_thread(lambda background: hash_file(path, lambda _bytes: None, background.stop.is_set))
    if digest is not None and found != digest:
        raise FetchError(
            f"cannot verify {path}: its sha256 is {found}, it should be {digest}",
            hint="fetch it again; qwenctl leaves the file as it is",
        )
    return found


def discard(part: Path) -> None:
    """Remove what has arrived of a file, and its journal."""
    for path in (part.with_suffix(".journal"), part):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _source(asset: ReleaseAsset) -> FileSource:
    def refusal(_thing: str, status: int, fields: Mapping[str, str]) -> FetchError:
        error = refused(asset.name, status, fields)
        error.hint = error.hint or by_hand(asset.url.rsplit("/", 1)[0], asset.name)
        return error

    return FileSource(asset.url, asset.name, lister="the listing", refusal=refusal)
