"""A hub on loopback, and the storage it sends clients on to. It misbehaves on request.

The paths and headers are those of facts about the real one: ``/api/models/REPO/revision/REV`` (and ``tree``),
``/REPO/resolve/REV/FILE`` with X-Repo-Commit, X-Linked-Etag, X-Linked-Size and a redirect to a signed link.
Run as a program it serves a folder and prints its address.
"""

import argparse
import asyncio
import contextlib
import hashlib
import random
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aiohttp import web

from tests.fakes.loopback_apps import Handler, LoopbackApps

Kind = Literal["info", "tree", "resolve", "bytes", "other"]
REPO = "someone/Model-GGUF"
COMMIT = "1234567890abcdef1234567890abcdef12345678"
CHUNK_BYTES = 2**18


@dataclass(frozen=True, slots=True)
class HubRequest:
    """One request, as a fault chooser sees it. ``number`` counts requests of its kind from 0."""

    kind: Kind
    number: int
    method: str
    path: str
    range: tuple[int, int | None] | None
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one request. Everything unset is done right."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    reset_after: int | None = None
    hang: bool = False
    hang_after: int | None = None
    trickle: bool = False  # the body comes a byte at a time, and never ends
    etag: str | None = None
    total: int | None = None
    ignore_range: bool = False
    flip: bool = False
    after: threading.Event | None = None  # not before this has happened


Faults = Callable[[HubRequest], Fault | None]


@dataclass(slots=True)
class FakeHub(LoopbackApps):
    """A repository of named contents at one commit."""

    files: dict[str, bytes | Path]
    faults: Faults = lambda _call: None
    latency_s: float = 0.0
    redirect: bool = True
    link_uses: int | None = None  # how many requests a signed link is good for
    linked_etag: str | None = None  # what resolve claims instead of the sha256
    branches: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    log: list[HubRequest] = field(default_factory=list)
    bytes_sent: int = 0
    sending: int = 0  # how many contents are being sent now, and at most so far
    most_sending: int = 0
    endpoint: str = ""
    _hashes: dict[str, str] = field(default_factory=dict)
    _links: dict[str, int] = field(default_factory=dict)
    _counts: dict[Kind, int] = field(default_factory=dict)

    def handlers(self) -> tuple[Handler, Handler]:
        return self._hub, self._store

    def listening(self, api: str) -> None:
        self.endpoint = api

    def sha256(self, name: str) -> str:
        if name not in self._hashes:
            content = self.files[name]
            if isinstance(content, Path):
                with content.open("rb") as file:
                    self._hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
            else:
                self._hashes[name] = hashlib.sha256(content).hexdigest()
        return self._hashes[name]

    def know_hashes(self, but: str | None = None) -> None:
        """Make up the hashes of large files: nobody reads their weights, and here they are holes.

        ``but``: the file whose weights are real.
        """
        for name in self.files:
            if name != but:
                self._hashes[name] = hashlib.sha256(name.encode()).hexdigest()

    def count(self, kind: Kind) -> int:
        return sum(call.kind == kind for call in self.log)

    async def _hub(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.split("?")[0]
        if match := re.fullmatch(rf"/api/models/{REPO}(?:/revision/(.+))?", path):
            return await self._info(request, match[1] or "main")
        if match := re.fullmatch(rf"/api/models/{REPO}/tree/([^/]+)", path):
            fault = await self._ask("tree", request)
            return _refusal(fault) or web.json_response(
                [{"type": "file", "path": name, **self._listing(name)} for name in self.files]
            )
        if path == f"/api/models/{REPO}/refs":
            fault = await self._ask("other", request)
            branches = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
                for name, commit in self.branches.items()
            ]
            return _refusal(fault) or web.json_response({"branches": branches, "tags": [], "converts": []})
        if match := re.fullmatch(rf"/{REPO}/resolve/([^/]+)/(.+)", path):
            return await self._resolve(request, match[2].replace("%2F", "/"))
        await self._ask("other", request)
        return web.json_response({"error": "not found"}, status=404, headers={"X-Error-Code": "RepoNotFound"})

    async def _info(self, request: web.Request, revision: str) -> web.StreamResponse:
        fault = await self._ask("info", request)
        if refusal := _refusal(fault):
            return refusal
        if fault is not None and fault.trickle:
            return await _trickle(request, web.StreamResponse(headers={"Content-Type": "application/json"}))
        commit = self.branches.get(revision) or (revision if revision in self.branches.values() else None)
        if commit is None:
            return web.json_response({"error": "x"}, status=404, headers={"X-Error-Code": "RevisionNotFound"})
        siblings = [{"rfilename": name, "blobId": "0" * 40, **self._listing(name)} for name in self.files]
        return web.json_response({"id": REPO, "modelId": REPO, "sha": commit, "siblings": siblings})

    def _listing(self, name: str) -> dict[str, object]:
        size, sha256 = self._size(name), self.sha256(name)
        lfs = {"oid": sha256, "sha256": sha256, "size": size, "pointerSize": 135}
        return {"oid": "0" * 40, "size": size, "lfs": lfs}

    async def _resolve(self, request: web.Request, name: str) -> web.StreamResponse:
        fault = await self._ask("resolve", request)
        if refusal := _refusal(fault):
            return refusal
        if name not in self.files:
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{self.linked_etag or self.sha256(name)}"',
            "X-Linked-Size": str(self._size(name)),
            "ETag": f'"{self.sha256(name)}"',
        }
        if not self.redirect:
            return await self._send(request, name, fault, headers)
        key = f"signature{len(self._links)}"
        self._links[key] = 0
        location = f"{self.storage}/{self.sha256(name)}?name={name}&key={key}"
        return web.Response(status=302, headers=headers | {"Location": location})

    async def _store(self, request: web.Request) -> web.StreamResponse:
        fault = await self._ask("bytes", request)
        if refusal := _refusal(fault):
            return refusal
        key = request.query.get("key", "")
        self._links[key] = self._links.get(key, 10**9) + 1
        if self.link_uses is not None and self._links[key] > self.link_uses:
            return web.Response(status=403, text="the link has expired")
        self.sending += 1
        self.most_sending = max(self.most_sending, self.sending)
        try:
            return await self._send(request, request.query["name"], fault, {"ETag": '"storage-1"'})
        finally:
            self.sending -= 1

    async def _send(  # noqa: C901 - every fault of a body has its line
        self, request: web.Request, name: str, fault: Fault | None, headers: dict[str, str]
    ) -> web.StreamResponse:
        fault = fault or Fault()
        content = self.files[name]
        size = self._size(name) if fault.total is None else fault.total
        headers |= {"ETag": fault.etag} if fault.etag else {}
        wanted = None if fault.ignore_range else _range(request)
        if_range = request.headers.get("If-Range")
        if wanted is not None and if_range is not None and if_range != headers["ETag"]:
            wanted = None
        start, end = 0, size
        if wanted is not None:
            start, end = wanted[0], min(size if wanted[1] is None else wanted[1] + 1, size)
            if start >= end:
                return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        response = web.StreamResponse(status=200 if wanted is None else 206, headers=headers)
        response.content_length = end - start
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        if fault.trickle:
            return await _trickle(request, response)
        file = content.open("rb") if isinstance(content, Path) else None
        view = memoryview(b"" if isinstance(content, Path) else content)
        sent = 0
        while start < end:
            if file is not None:
                file.seek(start)
                part: bytes | memoryview = file.read(min(CHUNK_BYTES, end - start))
            else:
                part = view[start : min(start + CHUNK_BYTES, end)]
            for limit in (fault.reset_after, fault.hang_after):
                part = part if limit is None else part[: max(0, limit - sent)]
            if fault.flip:
                part = bytes(byte ^ 1 for byte in part)
            try:
                await response.write(part)
            except ConnectionResetError:  # the client hung up: its right
                return response
            start += len(part)
            sent += len(part)
            self.bytes_sent += len(part)
            if fault.hang_after is not None and sent >= fault.hang_after:
                await asyncio.Event().wait()
            if fault.reset_after is not None and sent >= fault.reset_after:
                assert request.transport is not None
                request.transport.close()
                return response
        if file is not None:
            file.close()
        await response.write_eof()
        return response

    async def _ask(self, kind: Kind, request: web.Request) -> Fault | None:
        number = self._counts.get(kind, 0)
        self._counts[kind] = number + 1
        call = HubRequest(
            kind, number, request.method, request.raw_path, _range(request), dict(request.headers)
        )
        self.log.append(call)
        await asyncio.sleep(self.latency_s)
        fault = self.faults(call)
        while fault is not None and fault.after is not None and not fault.after.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        if fault is not None and fault.hang:
            await asyncio.Event().wait()
        return fault

    def _size(self, name: str) -> int:
        content = self.files[name]
        return content.stat().st_size if isinstance(content, Path) else len(content)


async def _trickle(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    if not response.prepared:
        await response.prepare(request)
    with contextlib.suppress(ConnectionResetError):  # the client hung up
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)
    return response


def _refusal(fault: Fault | None) -> web.Response | None:
    if fault is None or (fault.status is None and fault.body is None):
        return None
    return web.Response(status=fault.status or 200, headers=fault.headers, body=fault.body)


def _range(request: web.Request) -> tuple[int, int | None] | None:
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    return (int(match[1]), int(match[2]) if match[2] else None) if match else None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--fail-share", type=float, default=0)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    dice = random.Random(chosen.seed)

    def faults(call: HubRequest) -> Fault | None:
        return Fault(status=503) if call.kind == "bytes" and dice.random() < chosen.fail_share else None

    hub = FakeHub(
        {path.name: path for path in chosen.folder.glob("*.gguf")}, faults, chosen.latency_ms / 1000
    )
    for name in hub.files:
        hub.sha256(name)
    asyncio.run(hub.serve(lambda: print(hub.endpoint, hub.storage, flush=True)))


if __name__ == "__main__":
    main()
