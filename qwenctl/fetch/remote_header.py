"""Bring only the headers of a model, so that its memory can be judged before it is downloaded.

Each is extended sparsely to the true size: llama-fit-params then takes it for the model (measured, b11434).
"""

import io
import os
import secrets
from http import HTTPStatus
from pathlib import Path

import aiohttp

from qwenctl.errors import FetchError
from qwenctl.fetch.clock import FetchEnvironment
from qwenctl.fetch.disk import cannot
from qwenctl.fetch.download_url import DownloadUrls, connect
from qwenctl.fetch.hub import Hub, default_hub, status_error
from qwenctl.fetch.request import FetchRequest, RemoteFile, ResolvedRequest
from qwenctl.fetch.resolve import resolve
from qwenctl.fetch.retry import PassingError, asked_s, wait_s
from qwenctl.model.gguf_header import HEADER_BYTES, TruncatedHeaderError, read_header

STEP_BYTES = 4 * 2**20  # the 27B's header has 11 MB: three steps


async def fetch_header(
    request: FetchRequest, folder: Path, *, hub: Hub | None = None, world: FetchEnvironment | None = None
) -> Path:
    """Return the first of the model's files in ``folder``, true in size, with nothing behind its header.

    Headers that are there are used; a pinned hash then needs no request.

    Raises:
        FetchError: the hub or the disk failed, or a file is no GGUF.
    """
    world = world or FetchEnvironment()
    hub = hub or default_hub(request.cache_dir, offline=request.offline)
    pinned = request.files[0] if request.files else None
    if pinned is not None and pinned.sha256 is not None and len(request.files) == 1:
        path = _path(folder, pinned.sha256, pinned.name)
        if path.exists():
            return path
    if request.offline or hub.offline:
        raise FetchError(f"cannot read the header of {request.repo}: qwenctl is offline")
    resolved = await resolve(request, hub, world)
    first = resolved.files[0]
    paths = [_path(folder, first.sha256 or resolved.commit, file.name) for file in resolved.files]
    async with connect(world.patience, 1) as client:
        for file, path in zip(resolved.files, paths, strict=True):
            if not path.exists():
                await _bring(client, hub, resolved, file, path, world)
    return paths[0]


async def _bring(
    client: aiohttp.ClientSession,
    hub: Hub,
    resolved: ResolvedRequest,
    file: RemoteFile,
    path: Path,
    world: FetchEnvironment,
) -> None:
    links = DownloadUrls(client, hub, resolved.repo, resolved.commit, file)
    data = bytearray()
    header = None
    while header is None:
        end = min(len(data) + STEP_BYTES, file.bytes)
        data += await _patiently(client, links, file, len(data), end, world)
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


async def _patiently(
    client: aiohttp.ClientSession,
    links: DownloadUrls,
    file: RemoteFile,
    start: int,
    end: int,
    world: FetchEnvironment,
) -> bytes:
    patience = world.ask_patience
    last: Exception | None = None
    for failures in range(1, patience.attempts + 1):
        try:
            return await _read(client, links, file, start, end)
        except (aiohttp.ClientError, EOFError, TimeoutError, PassingError) as error:
            last = error
            asked = error.asked_s if isinstance(error, PassingError) else None
        await world.sleep(wait_s(failures, asked, patience, world.spread()))
    raise FetchError(f"cannot read the header of {file.name}: {last}") from last


async def _read(
    client: aiohttp.ClientSession, links: DownloadUrls, file: RemoteFile, start: int, end: int
) -> bytes:
    link = await links.get()
    async with client.get(link.url, headers=link.headers | {"range": f"bytes={start}-{end - 1}"}) as response:
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            return await response.content.readexactly(end - start)
        if response.status == HTTPStatus.OK:  # ranges ignored: pass over what we have, and hang up early
            await response.content.readexactly(start)
            return await response.content.readexactly(end - start)
        links.expire(link)
        asked = asked_s(response.headers.get("retry-after"), response.headers.get("ratelimit"))
        error = status_error(file.name, response.status, asked)
        raise PassingError(error.message, asked) if link.signed else error


def _path(folder: Path, key: str, name: str) -> Path:
    """Return where a header lies: parts of a split file keep their names, side by side."""
    return folder / key / Path(name).name
