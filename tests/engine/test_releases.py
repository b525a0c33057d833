"""Listings of releases are read as they come from outside: real ones whole, hostile ones in bounds."""

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.engine.builds.build_names import UnknownBuild, builds_of
from qwenctl.engine.builds.releases import (
    MAX_ASSETS,
    MAX_RELEASES,
    parse_pointer,
    parse_release,
    parse_releases,
)
from qwenctl.errors import FetchError
from tests.engine.listings import builds, release, release_json


def kinds(tag: str) -> list[str]:
    return sorted(f"{each.os} {each.arch} {each.kind}" for each in builds(tag).known)


def test_the_builds_of_a_release_are_known_by_their_names() -> None:
    assert kinds("b11101") == [
        "darwin arm64 metal",
        "darwin x86_64 cpu",
        "linux arm64 cpu",
        "linux arm64 cuda-13.4",
        "linux arm64 vulkan",
        "linux x86_64 cpu",
        "linux x86_64 cuda-12.8",
        "linux x86_64 cuda-13.4",
        "linux x86_64 rocm-10.0",
        "linux x86_64 sycl-fp16",
        "linux x86_64 sycl-fp32",
        "linux x86_64 vulkan",
    ]


def test_releases_of_the_zip_era_are_known_too() -> None:
    assert kinds("b6558") == [
        "darwin arm64 metal",
        "darwin x86_64 cpu",
        "linux x86_64 cpu",
        "linux x86_64 vulkan",
    ]
    assert "linux x86_64 rocm-7.2" in kinds("b8600")
    assert "linux x86_64 rocm-7.14" in kinds("b10356")


def test_each_cuda_build_has_its_own_runtime_beside_it() -> None:
    cuda = {each.name: each for each in builds("b11476").known if each.backend == "cuda"}
    old, new = cuda["b11476-cuda-12.8"], cuda["b11476-cuda-13.4"]
    assert [asset.name for asset in new.assets] == [
        "llama-b11476-bin-ubuntu-cuda-13.4-x64.tar.gz",
        "cudart-llama-b11476-bin-ubuntu-cuda-13.4-x64.tar.gz",
    ]
    assert (old.bytes, new.bytes) == (766_066_335, 592_768_469)
    assert all(asset.sha256 for asset in new.assets)


def test_a_runtime_without_the_tag_in_its_name_is_joined_too() -> None:
    text = json.dumps(release_json("b11476")).replace(
        "cudart-llama-b11476-bin-ubuntu", "cudart-llama-bin-ubuntu"
    )
    (build,) = [each for each in builds_of(parse_release(json.loads(text))).known if each.kind == "cuda-13.4"]
    assert build.runtime is not None
    assert build.runtime.name == "cudart-llama-bin-ubuntu-cuda-13.4-x64.tar.gz"


def test_what_is_for_other_systems_is_left_out_and_what_is_unknown_is_named() -> None:
    unknown = {each.asset.name: each.why for tag in ("b11101", "b8600") for each in builds(tag).unknown}
    assert unknown == {
        "llama-b11101-bin-ubuntu-openvino-2026.4-x64.tar.gz": "openvino is not known to qwenctl",
        "llama-b8600-bin-ubuntu-openvino-2026.0-x64.tar.gz": "openvino is not known to qwenctl",
        "llama-b8600-bin-macos-arm64-kleidiai.tar.gz": "kleidiai is not known to qwenctl",
    }


@pytest.mark.parametrize(
    "name",
    [
        "llama-b1-bin-ubuntu-cuda-13.4-turbo-x64.tar.gz",
        "llama-b1-bin-ubuntu-newbackend-x64.tar.gz",
        "llama-b1-bin-ubuntu-vulkan-2-extra-arm64.tar.gz",
    ],
)
def test_an_unknown_suffix_is_no_build_we_take(name: str) -> None:
    one = replace(release("b6558"), assets=(replace(release("b6558").assets[0], name=name),))
    (found,) = builds_of(one).unknown
    assert isinstance(found, UnknownBuild)
    assert found.why.endswith("is not known to qwenctl")


def test_a_stable_release_points_to_its_build() -> None:
    asset = {
        "name": "nightly-tag.txt",
        "size": 7,
        "browser_download_url": "https://example.org/t",
        "digest": None,
    }
    stable = parse_release({"tag_name": "v0.5.0", "assets": [asset]})
    assert stable.pointer is not None
    assert parse_pointer("b11160\n") == "b11160"
    for text in ("", "../../etc", "b11160\nb2", "latest", "b" * 4000):
        with pytest.raises(FetchError, match="cannot read the list of releases"):
            parse_pointer(text)


@pytest.mark.parametrize(
    "value", [None, 3, "x", {}, [3], [{}], [{"tag_name": 1, "assets": []}], [{"tag_name": "b1"}]]
)
def test_a_listing_of_another_form_is_one_clear_error(value: object) -> None:
    with pytest.raises(FetchError, match="cannot read the list of releases") as caught:
        parse_releases(value)
    assert "login page" in str(caught.value.hint)


@pytest.mark.parametrize("tag", ["../b1", "b1/..", "", "b 1", "b..1", "-b1", "b1\n", "x" * 65])
def test_a_tag_that_could_be_a_path_is_refused(tag: str) -> None:
    with pytest.raises(FetchError, match="a release is called"):
        parse_release({"tag_name": tag, "assets": []})


GOOD = {"name": "llama-b1-bin-ubuntu-x64.tar.gz", "size": 1, "browser_download_url": "https://a.example/x"}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../llama-b1-bin-ubuntu-x64.tar.gz"},
        {"name": "a/b"},
        {"name": "a\0b"},
        {"name": "a..b"},
        {"name": ".hidden"},
        {"name": 7},
        {"name": "x" * 300},
        {"size": 0},
        {"size": -1},
        {"size": True},
        {"size": "1"},
        {"size": 2**40},
        {"browser_download_url": "file:///etc/passwd"},
        {"browser_download_url": "https://a.example/ x"},
        {"browser_download_url": None},
        {"state": "new"},
    ],
)
def test_a_file_whose_entry_makes_no_sense_is_left_out(change: dict[str, object]) -> None:
    assert parse_release({"tag_name": "b1", "assets": [GOOD]}).assets != ()
    assert parse_release({"tag_name": "b1", "assets": [GOOD | change]}).assets == ()


@pytest.mark.parametrize(
    "digest", ["md5:abc", "sha256:xyz", "sha256:" + "A" * 64, 3, None, "sha256:" + "a" * 65]
)
def test_a_digest_that_is_none_counts_as_missing(digest: object) -> None:
    (asset,) = parse_release({"tag_name": "b1", "assets": [GOOD | {"digest": digest}]}).assets
    assert asset.sha256 is None


def test_a_huge_listing_is_read_in_bounds() -> None:
    one = {"tag_name": "b1", "assets": [GOOD] * (MAX_ASSETS + 5)}
    found = parse_releases([one] * (MAX_RELEASES + 5))
    assert (len(found), len(found[0].assets)) == (MAX_RELEASES, MAX_ASSETS)


def test_drafts_are_left_out() -> None:
    assert parse_releases([{"tag_name": "b1", "assets": [], "draft": True}]) == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["tag_name", "assets", "name", "size"]), inner)
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_a_listing_or_a_clear_error(value: object) -> None:
    with contextlib.suppress(FetchError):
        for each in parse_releases(value):
            builds_of(each)
