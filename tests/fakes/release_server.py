"""llama.cpp's releases on loopback: GitHub's API, and the storage that a file's address sends on to.

Paths, headers and answers are GitHub's: ``/repos/ggml-org/llama.cpp/releases`` and ``/releases/tags/TAG``
with an ETag and rate limits; the address of a file answers 302 to a signed address of another host. It
misbehaves on request. Run as a program it serves a folder (``TAG/NAME``) and prints its address.
"""

import argparse
import asyncio
import hashlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aiohttp import web

from tests.fakes.loopback_apps import Handler, LoopbackApps

ReleaseKind = Literal["listing", "tag", "link", "bytes"]
CHUNK = 2**16


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """One request, as a fault chooser sees it. ``number`` counts requests of its kind from 0."""

    kind: ReleaseKind
    number: int
    method: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class ReleaseFault:
    """What goes wrong with one request. Everything unset is done right."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    location: str | None = None  # where a file's address sends on to
    cut_after: int | None = None  # the connection ends after so many bytes
    flip: bool = False  # every byte is another one
    hang: threading.Event | None = None  # set when the request has come; nothing is answered


ReleaseFaults = Callable[[ReleaseRequest], ReleaseFault | None]


@dataclass(slots=True)
class ReleaseServer(LoopbackApps):
    """Releases by their tag, the newest first: each a file's name and content."""

    releases: dict[str, dict[str, bytes]]
    faults: ReleaseFaults = lambda _request: None
    digests: bool = True
    wrong_digest: str | None = None  # the name of a file whose digest is another one's
    log: list[ReleaseRequest] = field(default_factory=list)
    bytes_sent: int = 0
    api: str = ""
    _digests: dict[bytes, str] = field(default_factory=dict)
    _counts: dict[ReleaseKind, int] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """The value of ``[server] releases``."""
        return f"{self.api}/repos/ggml-org/llama.cpp"

    def handlers(self) -> tuple[Handler, Handler]:
        return self._api, self._store

    def listening(self, api: str) -> None:
        self.api = api

    def count(self, kind: ReleaseKind) -> int:
        return sum(request.kind == kind for request in self.log)

    def release_json(self, tag: str) -> dict[str, object]:
        assets = []
        for name, content in self.releases[tag].items():
            digest = self._digest(b"other" if name == self.wrong_digest else content)
            assets.append(
                {
                    "name": name,
                    "size": len(content),
                    "state": "uploaded",
                    "digest": f"sha256:{digest}" if self.digests else None,
                    "browser_download_url": f"{self.api}/ggml-org/llama.cpp/releases/download/{tag}/{name}",
                }
            )
        return {
            "tag_name": tag,
            "draft": False,
            "prerelease": not tag.startswith("v"),
            "published_at": "2026-11-20T10:00:00Z",
            "assets": assets,
        }

    def _digest(self, content: bytes) -> str:
        """The digest, made once: Python keeps the hash of bytes, but not their sha256."""
        if content not in self._digests:
            self._digests[content] = hashlib.sha256(content).hexdigest()
        return self._digests[content]

    async def _api(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path == "/repos/ggml-org/llama.cpp/releases":
            return self._json(request, "listing", [self.release_json(tag) for tag in self.releases])
        if match := re.fullmatch(r"/repos/ggml-org/llama\.cpp/releases/tags/([^/]+)", path):
            if match[1] not in self.releases:
                self._note("tag", request)
                return web.json_response({"message": "Not Found"}, status=404)
            return self._json(request, "tag", self.release_json(match[1]))
        if match := re.fullmatch(r"/ggml-org/llama\.cpp/releases/download/([^/]+)/([^/]+)", path):
            fault = self._note("link", request)
            if (refusal := _refusal(fault)) is not None:
                return refusal
            if match[2] not in self.releases.get(match[1], {}):
                return web.Response(status=404)
            there = fault.location if fault is not None and fault.location else self.storage
            location = f"{there}/{match[1]}/{match[2]}?sp=r&sig=abc"
            return web.Response(status=302, headers={"Location": location})
        return web.json_response({"message": "Not Found"}, status=404)

    def _json(self, request: web.Request, kind: ReleaseKind, value: object) -> web.Response:
        fault = self._note(kind, request)
        if (refusal := _refusal(fault)) is not None:
            return refusal
        etag = f'W/"{hashlib.sha256(repr(value).encode()).hexdigest()[:16]}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        return web.json_response(value, headers={"ETag": etag, "X-RateLimit-Remaining": "59"})

    async def _store(self, request: web.Request) -> web.StreamResponse:
        fault = self._note("bytes", request) or ReleaseFault()
        if (refusal := _refusal(fault)) is not None:
            return refusal
        if fault.hang is not None:
            fault.hang.set()
            await asyncio.Event().wait()
        _, tag, name = request.path.split("/")
        content = self.releases[tag][name]
        start, end = 0, len(content)
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        headers = {"ETag": '"0x8DE"'}
        if match is not None:
            start, end = int(match[1]), min(end, int(match[2]) + 1 if match[2] else end)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        response = web.StreamResponse(status=200 if match is None else 206, headers=headers)
        response.content_length = end - start
        await response.prepare(request)
        sent = 0
        while start < end:
            part = content[start : min(start + CHUNK, end)]
            if fault.cut_after is not None:
                part = part[: max(0, fault.cut_after - sent)]
            if fault.flip:
                part = bytes(byte ^ 1 for byte in part)
            if part:
                await response.write(part)
            sent, start = sent + len(part), start + len(part)
            self.bytes_sent += len(part)
            if fault.cut_after is not None and sent >= fault.cut_after:
                assert request.transport is not None
                request.transport.close()
                return response
        await response.write_eof()
        return response

    def _note(self, kind: ReleaseKind, request: web.Request) -> ReleaseFault | None:
        number = self._counts.get(kind, 0)
        self._counts[kind] = number + 1
        seen = ReleaseRequest(kind, number, request.method, request.path, dict(request.headers))
        self.log.append(seen)
        return self.faults(seen)


def _refusal(fault: ReleaseFault | None) -> web.Response | None:
    if fault is None or (fault.status is None and fault.body is None):
        return None
    return web.Response(status=fault.status or 200, headers=fault.headers, body=fault.body)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    tags = sorted(
        (each for each in folder.iterdir() if each.is_dir()), key=lambda each: each.name, reverse=True
    )
    server = ReleaseServer(
        {tag.name: {file.name: file.read_bytes() for file in sorted(tag.iterdir())} for tag in tags}
    )
    asyncio.run(server.serve(lambda: print(server.base, flush=True)))


if __name__ == "__main__":
    main()
