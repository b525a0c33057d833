"""The pure parts: which files, how long to wait, what a header says, how fast."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import FetchError
from qwenctl.fetch.answers import ContentRange, content_range, server_wait_s
from qwenctl.fetch.clock import RetryPolicy
from qwenctl.fetch.pick import pick
from qwenctl.fetch.progress import TransferMeter
from qwenctl.fetch.ranges import RangeJournal
from qwenctl.fetch.request import FetchRequest, Progress, RemoteFile, WantedFile, request_for
from qwenctl.fetch.retry import wait_s
from qwenctl.model.toml import read_profile
from qwenctl.settings.types import FetchSettings, ModelSettings, Settings

PROFILE = read_profile(Path(__file__).parents[2] / "profiles" / "qwen3.6-27b.toml")
SHA = "5ed60d0af4650a854b1755bd392f9aef4872643dc25a254bc68043fa638392a0"


def listing(*names: str) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(name, 100, "a" * 64) for name in names)


def picked(names: tuple[str, ...], wanted: tuple[str, ...], pattern: str | None = None) -> list[str]:
    request = FetchRequest("a/b", tuple(map(WantedFile, wanted)), pattern=pattern)
    return [file.name for file in pick(listing(*names), request)]


def test_the_exact_name_comes_before_the_pattern() -> None:
    assert picked(("M-Q4_K_M.gguf", "M-Q4_K_M-new.gguf"), ("M-Q4_K_M.gguf",), "*Q4_K_M*") == ["M-Q4_K_M.gguf"]


def test_a_renamed_file_is_matched_by_the_pattern() -> None:
    names = ("M-UD-Q4_K_M.gguf", "mmproj-Q4_K_M.gguf", "README.md", "M-Q6_K.gguf")
    assert picked(names, ("M-Q4_K_M.gguf",), "*Q4_K_M*") == ["M-UD-Q4_K_M.gguf"]


def test_a_split_file_comes_with_all_parts_in_order() -> None:
    parts = tuple(f"BF16/M-0000{number}-of-00003.gguf" for number in (3, 1, 2))
    assert picked(parts, (parts[1],)) == sorted(parts)
    assert picked(parts, ("gone.gguf",), "BF16/*") == sorted(parts)


def test_a_pattern_that_matches_two_files_is_an_error() -> None:
    with pytest.raises(FetchError, match="cannot choose") as caught:
        picked(("A-Q4_K_M.gguf", "B-Q4_K_M.gguf"), (), "*Q4_K_M*")
    assert "[model] file" in (caught.value.hint or "")


def test_a_missing_file_comes_with_near_names() -> None:
    with pytest.raises(FetchError, match=r"cannot find M-Q4_K_M\.gguf in a/b") as caught:
        picked(("M-Q4_K_XL.gguf",), ("M-Q4_K_M.gguf",))
    assert "M-Q4_K_XL.gguf" in (caught.value.hint or "")
    with pytest.raises(FetchError, match="no such file"):
        picked(("M-00001-of-00002.gguf",), ("M-00001-of-00002.gguf",))


def test_a_profile_pins_its_own_revision_only() -> None:
    quant = PROFILE.quant("Q4_K_M")
    assert quant is not None
    plain = request_for(
        PROFILE, quant, Settings(fetch=FetchSettings(connections=2, range_mib=4, offline=True))
    )
    assert plain is not None
    assert PROFILE.hub is not None
    assert (plain.repo, plain.revision, plain.files[0].sha256) == (
        PROFILE.hub.repo,
        PROFILE.hub.revision,
        SHA,
    )
    assert (plain.connections, plain.range_mib, plain.offline, plain.architecture) == (2, 4, True, "qwen35")
    for model in (ModelSettings(repo="other/Repo"), ModelSettings(revision="main")):
        other = request_for(PROFILE, quant, Settings(model=model))
        assert other is not None
        assert (other.revision, other.files) == ("main", (WantedFile(quant.files[0].name),))
    named = request_for(PROFILE, quant, Settings(model=ModelSettings(file="x.gguf")))
    assert named is not None
    assert named.names == ("x.gguf",)
    update = request_for(PROFILE, quant, Settings(), update=True)
    assert update is not None
    assert update.files[0].sha256 is None
    assert request_for(PROFILE.model_copy(update={"hub": None}), quant, Settings()) is None


def test_waits_double_up_to_the_longest() -> None:
    policy = RetryPolicy(first_s=1, longest_s=10)
    assert [wait_s(number, None, policy, 1.0) for number in range(1, 7)] == [1, 2, 4, 8, 10, 10]
    assert wait_s(3, None, policy, 0.0) == 3
    assert wait_s(1, 5.0, policy, 1.0) == 5
    assert wait_s(1, 10.0**9, policy, 1.0) == policy.server_longest_s


@pytest.mark.parametrize(
    ("retry_after", "limit", "seconds"),
    [
        ("7", None, 7),
        (" 7 ", None, 7),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None, None),
        ("-1", None, None),
        (None, '"api";r=0;t=55', 55),
        (None, '"api";r=3;t=55', None),
        (None, None, None),
    ],
)
def test_the_wait_a_server_asks_for_is_read_from_its_headers(
    retry_after: str | None, limit: str | None, seconds: float | None
) -> None:
    headers = {"retry-after": retry_after, "ratelimit": limit}
    assert server_wait_s({name: value for name, value in headers.items() if value is not None}) == seconds


@given(st.text(max_size=40))
def test_a_content_range_makes_sense_or_is_none(text: str) -> None:
    part = content_range(text)
    assert part is None or part.start < part.end
    assert content_range("bytes 0-9/100") == ContentRange(0, 10, 100)
    assert content_range("bytes 5-9/*") == ContentRange(5, 10, None)
    assert content_range("bytes 9-5/100") is content_range(None) is None


def journal(path: Path, size: int = 1000, range_bytes: int = 100, sha256: str = "a") -> RangeJournal:
    made = RangeJournal(path, RemoteFile("m.gguf", size, sha256), range_bytes)
    made.read()
    return made


def test_a_journal_remembers_and_survives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "j"
    first = journal(path, size=1050)
    first.open()
    first.add((3, 0))
    first.add((10,))
    first.close()
    assert (first.count, first.done_bytes, first.span(10)) == (11, 250, (1000, 1050))
    with path.open("ab") as file:
        file.write(b"7\n1")
    assert journal(path, size=1050).done == {0, 3, 7, 10}
    assert journal(path, size=1050, range_bytes=7).range_bytes == 100
    assert journal(path, size=1051).done == set()
    assert journal(path, size=1050, sha256="b").done == set()


@given(st.binary(max_size=60))
def test_a_damaged_journal_never_lists_a_range_that_it_did_not_note(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    path.write_bytes(garbage)
    assert journal(path).done == set()
    head = {"qwenctl": 1, "bytes": 1000, "sha256": "a", "range_bytes": 100}
    path.write_bytes(json.dumps(head).encode() + b"\n" + garbage)
    assert all(0 <= index < 10 for index in journal(path).done)


def test_the_meter_tells_the_speed_of_this_fetch_only() -> None:
    now = [0.0]
    reports: list[Progress] = []
    meter = TransferMeter(lambda: now[0], reports.append, 1000)
    meter.start("m.gguf", 100)
    meter.report("downloading", 500)
    now[0] = 0.01
    meter.report("downloading", 510)
    now[0] = 2.0
    meter.report("downloading", 700)
    meter.report("verifying", 900)
    assert [(progress.bytes, progress.bytes_per_s) for progress in reports] == [
        (600, 0),
        (800, 100),
        (1000, 0),
    ]
    assert replace(reports[-1], phase="done").phase == "done"
