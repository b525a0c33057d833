"""Listings of releases as GitHub's API answers them, made of the names that real releases have."""

from pathlib import Path

from qwenctl.engine.builds.build_names import ReleaseBuilds, builds_of
from qwenctl.engine.builds.releases import Release, parse_release

FOLDER = Path(__file__).parent / "releases"


def release_json(tag: str, **changes: object) -> dict[str, object]:
    """One release in the API's form."""
    base = f"https://github.com/ggml-org/llama.cpp/releases/download/{tag}"
    lines = (FOLDER / f"{tag}.txt").read_text(encoding="utf-8").splitlines()
    assets = []
    for line in lines:
        if line.startswith("#"):
            continue
        name, size, *digest = line.split()
        assets.append(
            {
                "name": name,
                "size": int(size),
                "state": "uploaded",
                "digest": f"sha256:{digest[0]}" if digest else None,
                "browser_download_url": f"{base}/{name}",
            }
        )
    release: dict[str, object] = {"tag_name": tag, "draft": False, "prerelease": True, "assets": assets}
    return release | {"published_at": "2026-10-10T10:10:10Z"} | changes


def release(tag: str) -> Release:
    return parse_release(release_json(tag))


def builds(tag: str) -> ReleaseBuilds:
    return builds_of(release(tag))
