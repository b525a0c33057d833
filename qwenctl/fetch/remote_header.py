"""Download only the headers of a model, so that its memory can be judged before it is downloaded.

Each header is extended with a hole to the size of the real file. llama-fit-params accepts it as the model
(measured, b11434).
"""

import io
import os
import secrets
from functools import partial
from http import HTTPStatus
from pathlib import Path

import aiohttp

from qwenctl.errors import FetchError
from qwenctl.fetch.answers import PassingError, refusal, server_wait_s
from qwenctl.fetch.clock import FetchEnvironment
from qwenctl.fetch.disk import cannot
from qwenctl.fetch.download_url import DownloadUrls, connect, hub_source
from qwenctl.fetch.hub import Hub, default_hub
from qwenctl.fetch.request import FetchRequest, RemoteFile, ResolvedRequest
from qwenctl.fetch.resolve import resolve
from qwenctl.fetch.retry import retry
from qwenctl.model.gguf_header import HEADER_BYTES, TruncatedHeaderError, read_header

STEP_BYTES = 4 * 2**20  # the 27B's header has 11 MB: three steps


async def fetch_header(
    request: FetchRequest,
    folder: Path,
    *,
    hub: Hub | None = None,
    environment: FetchEnvironment | None = None,
) -> Path:
    """Return the first of the model's files in ``folder``, with its real size and a hole after its header.

    Headers that were downloaded before are used again. If the profile pins the hash, that needs no request.

    Raises:
        FetchError: the hub or the disk failed, or a file is no GGUF.
    """
    environment = environment or FetchEnvironment()
    hub = hub or default_hub(request.cache_dir, offline=request.offline)
    pinned = request.files[0] if request.files else None
    if pinned is not None and pinned.sha256 is not None and len(request.files) == 1:
        path = _path(folder, pinned.sha256, pinned.name)
        if path.exists():
            return path
    if request.offline or hub.offline:
        raise FetchError(f"cannot read the header of {request.repo}: qwenctl is offline")
    return (await bring_headers(await resolve(request, hub, environment), folder, hub, environment))[0]


async def bring_headers(
    resolved: ResolvedRequest, folder: Path, hub: Hub, environment: FetchEnvironment
) -> tuple[Path, ...]:
    """Return each file in ``folder``, with its real size and a hole after its header.

    Headers that were downloaded before are used without a request.

    Raises:
        FetchError: the hub or the disk failed, qwenctl is offline, or a file is no GGUF.
    """
    first = resolved.files[0]
    paths = [_path(folder, first.sha256 or resolved.commit, file.name) for file in resolved.files]
    missing = [
        (file, path) for file, path in zip(resolved.files, paths, strict=True) if not _is_there(path, file)
    ]
    if missing and hub.offline:
        raise FetchError(
            f"cannot read the header of {missing[0][0].name} in {resolved.repo}: qwenctl is offline",
            hint="run it once with a network, or name a file of this disk",
        )
    if missing:
        async with connect(environment.transfer_policy, 1) as client:
            for file, path in missing:
                await _bring(client, hub, resolved, file, path, environment)
    return tuple(paths)


def _is_there(path: Path, file: RemoteFile) -> bool:
    try:
        return path.stat().st_size == file.bytes
    except OSError:
        return False


async def _bring(
    client: aiohttp.ClientSession,
    hub: Hub,
    resolved: ResolvedRequest,
    file: RemoteFile,
    path: Path,
    environment: FetchEnvironment,
) -> None:
    links = DownloadUrls(client, hub_source(hub, resolved.repo, resolved.commit, file), file)
    data = bytearray()
    header = None
    while header is None:
        end = min(len(data) + STEP_BYTES, file.bytes)
        data += await retry(
            partial(_read, client, links, file, len(data), end),
            environment.metadata_policy,
            environment,
            give_up=lambda error, _failures: FetchError(f"cannot read the header of {file.name}: {error}"),
        )
        try:
            header = read_header(io.BytesIO(data).read)
        except TruncatedHeaderError:
            if len(data) >= min(file.bytes, HEADER_BYTES):
                raise
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data[: header.data_offset])
        os.truncate(temporary, file.bytes)
        temporary.replace(path)
    except OSError as error:
        raise cannot("write", path, error) from error


async def _read(
    client: aiohttp.ClientSession, links: DownloadUrls, file: RemoteFile, start: int, end: int
) -> bytes:
    link = await links.get()
    async with client.get(link.url, headers=link.headers | {"range": f"bytes={start}-{end - 1}"}) as response:
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            return await response.content.readexactly(end - start)
        if response.status == HTTPStatus.OK:  # ranges ignored: skip the bytes that we have, and hang up early
            await response.content.readexactly(start)
            return await response.content.readexactly(end - start)
        links.expire(link)
        error = refusal(file.name, response.status, response.headers)
        if link.signed:  # the link may have expired: the next attempt asks the hub for a new one
            raise PassingError(error.message, server_wait_s(response.headers))
        raise error


def _path(folder: Path, key: str, name: str) -> Path:
    """Return where a header lies: parts of a split file keep their names, side by side."""
    return folder / key / Path(name).name
