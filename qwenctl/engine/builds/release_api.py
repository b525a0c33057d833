"""Ask for the releases of llama.cpp: the one client of GitHub's API, or of a mirror with the same answers.

The last answer of each address is kept with its ETag. An answer "not modified" costs nothing of the 60
requests an hour that GitHub allows without a token. When the limit is used up, or there is no network, the
kept answer is used, and a note says how old it is.

Source: GitHub's REST API, "Rate limits for the REST API" and "Conditional requests".
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import aiohttp
from yarl import URL

from qwenctl.engine.builds.releases import TAG, Release, parse_pointer, parse_release, parse_releases
from qwenctl.errors import FetchError
from qwenctl.fetch.answers import PASSING, PassingError, server_wait_s
from qwenctl.fetch.clock import FetchEnvironment
from qwenctl.fetch.download_url import connect, headers, redirected
from qwenctl.fetch.retry import retry
from qwenctl.files import read_json, write_json

PER_PAGE = 10
"""llama.cpp publishes several builds a day: the newest ten are two days."""
MAX_BYTES = 16 * 2**20
"""The largest listing that is read: ten releases of 36 files are about 0.6 MB."""
MAX_POINTER_BYTES = 1024
HOPS = 4
TOKENS = ("GITHUB_TOKEN", "GH_TOKEN")
NETWORK_HINT = "check the network, the proxy settings and [server] releases"


@dataclass(frozen=True, slots=True)
class Listing:
    """Releases, newest first. ``note`` says that they come from an earlier answer, and why."""

    releases: tuple[Release, ...]
    note: str | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    value: object
    note: str | None = None


class ReleaseApi:
    """The releases at one address (``https://api.github.com/repos/ggml-org/llama.cpp``)."""

    def __init__(self, base: str, cache: Path, environment: FetchEnvironment, *, offline: bool) -> None:
        self._base = base.rstrip("/")
        self._cache = cache / "releases"
        self._environment = environment
        self._offline = offline
        self._token = _token()

    @property
    def page(self) -> str:
        """Where a person finds the files with a browser."""
        return self._base.replace("//api.github.com/repos/", "//github.com/") + "/releases"

    async def newest(self) -> Listing:
        """Return the newest releases.

        Raises:
            FetchError: they cannot be had, and no earlier answer is kept.
        """
        answer = await self._ask(f"{self._base}/releases?per_page={PER_PAGE}", "the list of releases")
        return Listing(parse_releases(answer.value), answer.note)

    async def tagged(self, tag: str) -> Listing:
        """Return the release of a tag; that of the build where the tag is a stable one (``v0.5.0``).

        Raises:
            FetchError: there is none, or it cannot be had.
        """
        if not TAG.fullmatch(tag) or ".." in tag:
            raise FetchError(f"cannot find release {tag[:60]!r}: that is no release's name", hint=_NAMES)
        answer = await self._ask(f"{self._base}/releases/tags/{tag}", f"release {tag}")
        release, note = parse_release(answer.value), answer.note
        if release.pointer is not None:
            build = parse_pointer(await self._text(release.pointer.url, release.pointer.name))
            return await self.tagged(build)
        return Listing((release,), note)

    async def _ask(self, url: str, thing: str) -> _Answer:
        kept_file = self._cache / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.json"
        kept = read_json(kept_file) or {}
        if kept.get("url") != url or "value" not in kept:
            kept = {}
        if self._offline:
            return self._instead(kept, offline(thing, self.page), "qwenctl is offline")
        try:
            return await retry(
                lambda: self._request(url, thing, kept, kept_file),
                self._environment.metadata_policy,
                self._environment,
                give_up=lambda error, _failures: _unreachable(url, thing, error, self.page),
            )
        except FetchError as error:
            if isinstance(error, _NotThereError):
                raise
            return self._instead(kept, error, error.message)

    def _instead(self, kept: Mapping[str, object], error: FetchError, why: str) -> _Answer:
        """Return the answer that is kept. Raises the error if none is."""
        if "value" not in kept:
            raise error
        at = kept.get("at")
        day = (
            time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if isinstance(at, int | float) else "earlier"
        )
        return _Answer(kept["value"], f"{why}; this is the list of {day}")

    async def _request(self, url: str, thing: str, kept: Mapping[str, object], kept_file: Path) -> _Answer:
        etag = kept.get("etag")
        asked = {"accept": "application/vnd.github+json", "x-github-api-version": "2022-11-28"}
        if isinstance(etag, str):
            asked["if-none-match"] = etag
        status, fields, body = await self._get(url, thing, asked, MAX_BYTES)
        if status == HTTPStatus.NOT_MODIFIED and kept:
            _keep(kept_file, {**kept, "at": time.time()})
            return _Answer(kept["value"])
        if status != HTTPStatus.OK:
            raise refused(thing, status, fields)
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise FetchError(
                f"cannot read {thing}: the answer is no JSON",
                hint="check [server] releases; a login page of the network also does this",
            ) from error
        _keep(kept_file, {"url": url, "etag": fields.get("etag"), "at": time.time(), "value": value})
        return _Answer(value)

    async def _text(self, url: str, name: str) -> str:
        """Return a small text of a release."""

        async def read() -> str:
            status, fields, body = await self._get(url, name, {}, MAX_POINTER_BYTES)
            if status != HTTPStatus.OK:
                raise refused(name, status, fields)
            return body.decode("utf-8", "replace")

        return await retry(
            read,
            self._environment.metadata_policy,
            self._environment,
            give_up=lambda error, _failures: _unreachable(url, name, error, self.page),
        )

    async def _get(
        self, start: str, thing: str, asked: Mapping[str, str], most_bytes: int
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body. The token goes to the API's own origin only."""
        url, origin = URL(start, encoded=True), URL(self._base).origin()
        async with connect(self._environment.metadata_policy, 1) as client:
            for _ in range(HOPS):
                token = self._token if url.origin() == origin else None
                request = {**headers(token), **asked}
                async with client.get(url, headers=request, allow_redirects=False) as response:
                    if response.status in (301, 302, 303, 307, 308) and "location" in response.headers:
                        url = redirected(url, response.headers["location"], thing)
                        continue
                    body = await _read(response, most_bytes, thing)
                    return response.status, response.headers, body
        raise FetchError(f"cannot read {thing}: more than {HOPS} redirects", hint=NETWORK_HINT)


class _NotThereError(FetchError):
    """The release does not exist: an earlier answer would be wrong."""


_NAMES = "releases are called b11476 or v0.5.0; qwenctl engine list shows the newest"


def refused(thing: str, status: int, fields: Mapping[str, str]) -> FetchError:
    """Return the error for a status that is no success. A PassingError may pass by itself."""
    if status in (403, 429) and fields.get("x-ratelimit-remaining") == "0":
        reset = fields.get("x-ratelimit-reset", "")
        at = (
            time.strftime("%H:%M", time.localtime(int(reset)))
            if reset.isdecimal() and len(reset) < 12
            else "?"
        )
        limit = fields.get("x-ratelimit-limit", "60")
        return FetchError(
            f"cannot read {thing}: the limit of {limit[:8]} requests an hour is used up until {at}",
            hint="wait, or set GITHUB_TOKEN; qwenctl engine install --from FILE needs no request",
        )
    if status == HTTPStatus.NOT_FOUND:
        return _NotThereError(f"cannot find {thing}: there is none of this name", hint=_NAMES)
    if status == HTTPStatus.UNAUTHORIZED:
        return FetchError(f"cannot read {thing}: the token is refused", hint="check or unset GITHUB_TOKEN")
    message = f"cannot read {thing}: the server answers {status}"
    if status in PASSING:
        return PassingError(message, server_wait_s(fields), NETWORK_HINT)
    return FetchError(message, hint=NETWORK_HINT)


def offline(thing: str, page: str) -> FetchError:
    """Return the error of a request that is not made."""
    return FetchError(f"cannot read {thing}: qwenctl is offline", hint=by_hand(page))


def by_hand(page: str, *names: str) -> str:
    """Return how to install without a network: which files to bring, and the command."""
    files = " and ".join(names) or "the archive that suits this machine"
    return f"fetch {files} from {page}, then: qwenctl engine install --from FILE"


def _unreachable(url: str, thing: str, error: Exception, page: str) -> FetchError:
    cause = str(error) or type(error).__name__
    return FetchError(f"cannot read {thing}: cannot reach {URL(url).host}: {cause}", hint=by_hand(page))


async def _read(response: aiohttp.ClientResponse, most_bytes: int, thing: str) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > most_bytes:
            raise FetchError(f"cannot read {thing}: the answer is longer than {most_bytes} bytes")
    return bytes(body)


def _keep(path: Path, value: object) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, value)
    except OSError:
        return  # the next time it is asked for anew


def _token() -> str | None:
    return next((value for name in TOKENS if (value := os.environ.get(name))), None)
