"""Read the listing of llama.cpp's releases. Pure: parsed JSON in, values out.

The listing comes from outside: every name, number and address of it is checked before it is used. An asset
that does not pass is left out; a listing of another form is an error.

Source: GitHub's REST API, "List releases"; ``digest`` of an asset is ``sha256:`` and 64 hex digits.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwenctl.errors import FetchError

MAX_RELEASES, MAX_ASSETS = 100, 1000
"""GitHub lists at most 100 releases on a page and allows 1000 assets for one release."""
MAX_ASSET_BYTES = 2 * 2**30
"""GitHub's own limit for an asset. Source: GitHub, "About releases", storage quotas."""
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ASSET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
ADDRESS = re.compile(r"https?://[^\s\x00-\x20<>\"\\]{1,2000}")
POINTER = "nightly-tag.txt"
"""The one asset of a stable release (``v0.5.0``): a text with the tag of the build that it stands for.

Source: llama.cpp, .github/workflows/make-release.yml.
"""
BUILD_TAG = re.compile(r"b\d{1,9}")


@dataclass(frozen=True, slots=True)
class ReleaseAsset:
    """A file of a release. ``sha256`` is None where the listing has no digest of it."""

    name: str
    bytes: int
    url: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Release:
    """A release: its tag and its files. ``published`` is the listing's own text, a date in ISO 8601."""

    tag: str
    assets: tuple[ReleaseAsset, ...]
    prerelease: bool = False
    published: str | None = None

    @property
    def pointer(self) -> ReleaseAsset | None:
        """The asset that names the build of a stable release."""
        return next((asset for asset in self.assets if asset.name == POINTER), None)


def parse_releases(value: object) -> tuple[Release, ...]:
    """Return the releases of a listing, newest first, as GitHub lists them; drafts are left out.

    Raises:
        FetchError: it is no listing.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise _nonsense("it is no list")
    return tuple(parse_release(one) for one in value[:MAX_RELEASES] if not _is_draft(one))


def parse_release(value: object) -> Release:
    """Return one release.

    Raises:
        FetchError: it is none.
    """
    if not isinstance(value, Mapping):
        raise _nonsense("a release is no table")
    tag, assets = value.get("tag_name"), value.get("assets")
    if not isinstance(tag, str) or not TAG.fullmatch(tag) or ".." in tag:
        raise _nonsense(f"a release is called {str(tag)[:40]!r}")
    if not isinstance(assets, Sequence) or isinstance(assets, str | bytes):
        raise _nonsense(f"release {tag} has no list of files")
    found = (_asset(one) for one in assets[:MAX_ASSETS])
    published = value.get("published_at")
    return Release(
        tag,
        tuple(asset for asset in found if asset is not None),
        value.get("prerelease") is True,
        published[:40] if isinstance(published, str) else None,
    )


def parse_pointer(text: str) -> str:
    """Return the tag of the build that a stable release stands for.

    Raises:
        FetchError: the text names none.
    """
    tag = text.strip()
    if not BUILD_TAG.fullmatch(tag):
        raise _nonsense(f"{POINTER} says {tag[:40]!r}")
    return tag


def _asset(value: object) -> ReleaseAsset | None:
    """Return a file of a release; None for one that is still being uploaded or whose entry makes no sense."""
    if not isinstance(value, Mapping) or value.get("state", "uploaded") != "uploaded":
        return None
    name, size, url = (value.get(key) for key in ("name", "size", "browser_download_url"))
    if not isinstance(name, str) or not ASSET_NAME.fullmatch(name) or ".." in name:
        return None
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MAX_ASSET_BYTES:
        return None
    if not isinstance(url, str) or not ADDRESS.fullmatch(url):
        return None
    digest = value.get("digest")
    match = DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    return ReleaseAsset(name, size, url, match[1] if match else None)


def _is_draft(value: object) -> bool:
    return isinstance(value, Mapping) and value.get("draft") is True


def _nonsense(why: str) -> FetchError:
    return FetchError(
        f"cannot read the list of releases: {why}",
        hint="check [server] releases; a login page of the network also does this",
    )
