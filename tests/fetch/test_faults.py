"""A hub that misbehaves. Every case ends in a verified file or in one clear error; no range is lost."""

import asyncio
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.errors import ExitCode, FetchError
from qwenctl.fetch.artifact import fetch
from qwenctl.fetch.clock import RetryPolicy
from tests.fakes.fetcher import REQUEST, Fetcher
from tests.fakes.hub import COMMIT, REPO, FakeHub, Fault, HubRequest

MIB = 2**20


def test_a_file_arrives_whole_and_where_programs_look(fetcher: Fetcher) -> None:
    artifact = fetcher.fetch()
    fetcher.check(artifact)
    assert artifact.path == fetcher.hub().folder(REPO) / "snapshots" / COMMIT / "m.gguf"
    assert (fetcher.hub().folder(REPO) / "refs" / "main").read_text() == COMMIT
    assert sorted(path.name for path in fetcher.blobs.iterdir()) == [artifact.files[0].sha256]
    assert [progress.phase for progress in fetcher.progress][-1] == "done"
    assert fetcher.fake.bytes_sent == artifact.files[0].bytes


def test_wrong_bytes_of_the_right_length_are_never_kept(fetcher: Fetcher) -> None:
    fetcher.fake.faults = lambda call: Fault(flip=True) if call.kind == "bytes" and call.number == 3 else None
    with pytest.raises(FetchError, match=r"cannot verify m\.gguf: its sha256 is") as caught:
        fetcher.fetch()
    assert caught.value.exit_code == ExitCode.FETCH
    assert list(fetcher.blobs.iterdir()) == []
    fetcher.check(fetcher.fetch())


def test_a_short_file_is_one_clear_error(fetcher: Fetcher) -> None:
    fetcher.fake.faults = lambda call: Fault(total=4 * MIB) if call.kind == "bytes" else None
    with pytest.raises(FetchError, match=f"it has {4 * MIB} bytes, the hub lists|it has no byte"):
        fetcher.fetch()
    fetcher.nothing_wrong_in_cache()


def test_a_range_beyond_the_end_is_one_clear_error(fetcher: Fetcher) -> None:
    fetcher.fake.faults = lambda call: Fault(status=416) if call.kind == "bytes" else None
    with pytest.raises(FetchError, match="it has no byte"):
        fetcher.fetch()


def test_an_etag_that_changes_between_ranges_is_checked_against_the_hub(fetcher: Fetcher) -> None:
    fetcher.fake.faults = lambda call: (
        Fault(etag='"storage-2"') if call.kind == "bytes" and call.number >= 3 else None
    )
    fetcher.check(fetcher.fetch(replace(REQUEST, connections=1)))
    assert fetcher.fake.count("resolve") == 2


def test_an_etag_of_its_own_for_each_machine_of_the_storage_does_no_harm(fetcher: Fetcher) -> None:
    fetcher.fake.faults = lambda call: (
        Fault(etag=f'"machine-{call.number}"') if call.kind == "bytes" else None
    )
    fetcher.check(fetcher.fetch())


def test_a_file_that_was_replaced_on_the_hub_is_refused(fetcher: Fetcher) -> None:
    fetcher.fake.linked_etag = "0" * 64
    with pytest.raises(FetchError, match="the hub now has another file there"):
        fetcher.fetch()
    assert fetcher.downloads() == 0


@pytest.mark.parametrize(
    ("kind", "fault", "message", "hint"),
    [
        ("info", Fault(status=401), "refuses \\(401\\)", "HF_TOKEN"),
        ("info", Fault(status=403), "refuses \\(403\\)", "HF_TOKEN"),
        ("info", Fault(status=404, headers={"X-Error-Code": "RepoNotFound"}), "or it is private", "HF_TOKEN"),
        ("info", Fault(status=403, headers={"X-Error-Code": "GatedRepo"}), "it is gated", "accept"),
        (
            "info",
            Fault(status=404, headers={"X-Error-Code": "RevisionNotFound"}),
            "no such branch",
            "revision",
        ),
        ("resolve", Fault(status=401), "refuses \\(401\\)", "HF_TOKEN"),
        ("resolve", Fault(status=403, headers={"X-Error-Code": "GatedRepo"}), "gated", "accept"),
        ("resolve", Fault(status=404, headers={"X-Error-Code": "EntryNotFound"}), "no such file", "file"),
    ],
)
def test_a_refusal_says_what_to_do(
    fetcher: Fetcher, kind: str, fault: Fault, message: str, hint: str
) -> None:
    fetcher.fake.faults = lambda call: fault if call.kind == kind else None
    with pytest.raises(FetchError, match=message) as caught:
        fetcher.fetch()
    assert hint in (caught.value.hint or "")
    assert fetcher.slept == []


@pytest.mark.parametrize(
    "body",
    [
        b"<html>please log in</html>",
        b"[]",
        b'"x"',
        b"{}",
        b'{"id": "a/b", "sha": 5, "siblings": []}',
        b'{"id": "a/b", "sha": "%s", "siblings": [{"rfilename": 7}]}' % COMMIT.encode(),
        b'{"id": "a/b", "sha": "%s", "siblings": [{"x": 7}]}' % COMMIT.encode(),
        b'{"id": "a/b", "sha": "%s", "siblings": "abc"}' % COMMIT.encode(),
        b'{"id": "a/b", "sha": "%s", "siblings": [{"rfilename": "a", "size": 1, "lfs": {"size": 1}}]}'
        % COMMIT.encode(),
        b"[" * 100_000,
    ],
)
def test_garbage_in_the_metadata_is_one_clear_error(fetcher: Fetcher, body: bytes) -> None:
    fetcher.fake.faults = lambda call: Fault(body=body) if call.kind == "info" else None
    with pytest.raises(FetchError, match="makes no sense"):
        fetcher.fetch()


@pytest.mark.parametrize(
    "name", ["../../../evil.gguf", "/etc/evil.gguf", "a/../b.gguf", "a\\b.gguf", "./m.gguf"]
)
def test_a_file_name_that_points_out_of_the_cache_is_ignored(
    fetcher: Fetcher, name: str, model: bytes
) -> None:
    fetcher.fake.files = {name: model}
    with pytest.raises(FetchError, match="no such file"):
        fetcher.fetch(replace(REQUEST, files=(), pattern="*.gguf"))


def test_a_busy_storage_is_given_the_time_it_asks_for(fetcher: Fetcher) -> None:
    busy = Fault(status=429, headers={"Retry-After": "7"})
    fetcher.fake.faults = lambda call: busy if call.kind == "bytes" and call.number == 2 else None
    fetcher.check(fetcher.fetch())
    assert fetcher.slept == [7.0]


def test_a_busy_storage_that_names_no_time_is_asked_later_and_later(fetcher: Fetcher) -> None:
    fetcher.fake.faults = lambda call: Fault(status=429) if call.kind == "bytes" and call.number < 3 else None
    fetcher.check(fetcher.fetch(replace(REQUEST, connections=1)))
    assert fetcher.slept == [0.25, 0.5, 1.0]


def test_a_busy_hub_is_asked_again(fetcher: Fetcher) -> None:
    busy = Fault(status=429, headers={"Retry-After": "3"})
    fetcher.fake.faults = lambda call: busy if call.kind == "info" and call.number == 0 else None
    fetcher.check(fetcher.fetch())
    assert fetcher.slept == [3.0]


def test_a_storm_of_500_passes(fetcher: Fetcher) -> None:
    fetcher.fake.faults = lambda call: Fault(status=500) if call.kind == "bytes" and call.number % 3 else None
    fetcher.check(fetcher.fetch())


def test_a_storage_that_is_down_is_one_clear_error_and_nothing_is_lost(fetcher: Fetcher) -> None:
    fetcher.fake.faults = lambda call: (
        Fault(status=500) if call.kind == "bytes" and call.number >= 3 else None
    )
    with pytest.raises(
        FetchError, match="12 tries in a row failed, the last one: the storage answers 500"
    ) as caught:
        fetcher.fetch(replace(REQUEST, connections=1))
    assert "kept" in (caught.value.hint or "")
    fetcher.fake.faults = lambda _call: None
    before = fetcher.fake.bytes_sent
    artifact = fetcher.fetch(replace(REQUEST, connections=1))
    fetcher.check(artifact)
    assert fetcher.fake.bytes_sent - before == artifact.files[0].bytes - 4 * MIB


def test_a_reset_connection_costs_only_the_bytes_on_the_way(fetcher: Fetcher, model: bytes) -> None:
    fetcher.fake.faults = lambda call: (
        Fault(reset_after=400_000) if call.kind == "bytes" and call.number % 2 == 0 else None
    )
    fetcher.check(fetcher.fetch())
    assert fetcher.fake.bytes_sent < 1.6 * len(model)


def test_a_connection_that_hangs_is_given_up(fetcher: Fetcher) -> None:
    fetcher.policy = RetryPolicy(stall_s=0.3)
    fetcher.fake.faults = lambda call: (
        (Fault(hang_after=300_000) if call.number == 1 else Fault(hang=True) if call.number == 3 else None)
        if call.kind == "bytes"
        else None
    )
    fetcher.check(fetcher.fetch())
    assert fetcher.slept == [0.25, 0.25]


def test_a_server_without_ranges_gives_one_stream(fetcher: Fetcher) -> None:
    fetcher.fake.faults = lambda call: Fault(ignore_range=True) if call.kind == "bytes" else None
    fetcher.check(fetcher.fetch())
    whole = [call for call in fetcher.fake.log if call.kind == "bytes" and call.range is None]
    assert len(whole) == 1


def test_a_stream_without_ranges_that_breaks_keeps_what_it_finished(fetcher: Fetcher) -> None:
    def faults(call: HubRequest) -> Fault | None:
        if call.kind != "bytes":
            return None
        return Fault(
            ignore_range=True, reset_after=3 * MIB + 5 if call.range is None and call.number < 8 else None
        )

    fetcher.fake.faults = faults
    fetcher.check(fetcher.fetch())


def test_a_link_that_expires_is_renewed(fetcher: Fetcher) -> None:
    fetcher.fake.link_uses = 2
    fetcher.check(fetcher.fetch(replace(REQUEST, connections=1)))
    assert fetcher.fake.count("resolve") == 3
    assert fetcher.slept == [0.0, 0.0]


def test_a_link_that_is_refused_however_fresh_is_one_clear_error(fetcher: Fetcher) -> None:
    fetcher.fake.faults = lambda call: Fault(status=403) if call.kind == "bytes" else None
    with pytest.raises(FetchError, match="it answers 403 to a link of the hub"):
        fetcher.fetch()


def test_a_hub_that_serves_the_bytes_itself_is_fine(fetcher: Fetcher) -> None:
    fetcher.fake.redirect = False
    fetcher.token = "hf_secret"
    fetcher.check(fetcher.fetch())
    assert all(call.headers["Authorization"] == "Bearer hf_secret" for call in fetcher.fake.log)


def test_the_token_goes_to_the_hub_and_to_nobody_else(fetcher: Fetcher) -> None:
    fetcher.token = "hf_secret"
    fetcher.check(fetcher.fetch())
    sent = {
        call.kind: call.headers.get("Authorization", call.headers.get("authorization"))
        for call in fetcher.fake.log
    }
    assert sent == {"info": "Bearer hf_secret", "resolve": "Bearer hf_secret", "bytes": None}
    assert "hf_secret" not in repr(fetcher.hub())


def test_an_error_shows_no_token_and_no_signed_link(fetcher: Fetcher) -> None:
    fetcher.token = "hf_secret"
    fetcher.fake.faults = lambda call: Fault(status=403) if call.kind == "bytes" else None
    with pytest.raises(FetchError) as caught:
        fetcher.fetch()
    assert not re.search("hf_secret|signature|key=", f"{caught.value.message} {caught.value.hint}")


def test_a_hub_that_cannot_be_reached_is_one_clear_error(fetcher: Fetcher, model: bytes) -> None:
    with FakeHub({"m.gguf": model}) as gone:
        pass
    fetcher.fake = gone
    with pytest.raises(FetchError, match=r"cannot reach http://127\.0\.0\.1:"):
        fetcher.fetch()
    assert fetcher.slept == [0.25, 0.5, 1.0, 2.0, 4.0]


def test_the_free_space_is_checked_before_the_first_byte_is_requested(fetcher: Fetcher) -> None:
    fetcher.margin_bytes = 10**18
    with pytest.raises(
        FetchError, match=r"more bytes and 1000000000000000000 of margin are needed, \d+ are free"
    ):
        fetcher.fetch()
    assert fetcher.downloads() == fetcher.fake.count("resolve") == 0


def test_two_fetches_download_the_file_once_and_the_second_reports_that_it_waits(
    fetcher: Fetcher, model: bytes
) -> None:
    fetcher.fake.latency_s = 0.05
    other = Fetcher(fetcher.fake, fetcher.folder)
    other_artifacts = []
    thread = threading.Thread(target=lambda: other_artifacts.append(other.fetch()))
    thread.start()
    artifact = fetcher.fetch()
    thread.join()
    fetcher.check(artifact)
    assert other_artifacts[0].path == artifact.path
    assert fetcher.fake.bytes_sent == len(model)
    assert "waiting" in {progress.phase for progress in (*fetcher.progress, *other.progress)}


def test_the_hub_is_asked_for_nothing_a_transfer_does_not_need(fetcher: Fetcher, tmp_path: Path) -> None:
    assert tmp_path.exists()
    fetcher.fetch()
    assert [call.kind for call in fetcher.fake.log] == ["info", "resolve"] + ["bytes"] * 6
    assert "agent" not in fetcher.fake.log[0].headers.get("User-Agent", "")


def test_a_fetch_that_is_cancelled_keeps_its_ranges_and_frees_its_lock(
    fetcher: Fetcher, model: bytes
) -> None:
    fetcher.fake.faults = lambda call: Fault(hang=True) if call.kind == "bytes" and call.number >= 3 else None

    async def cancelled() -> None:
        work = asyncio.create_task(
            fetch(
                replace(REQUEST, connections=1),
                lambda _progress: None,
                state_dir=fetcher.state,
                hub=fetcher.hub(),
                environment=fetcher.environment(),
            )
        )
        while fetcher.downloads() < 4:  # noqa: ASYNC110 - the hub lives in another thread
            await asyncio.sleep(0.001)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(cancelled())
    fetcher.fake.faults = lambda _call: None
    sent = fetcher.fake.bytes_sent
    fetcher.check(fetcher.fetch())
    assert fetcher.fake.bytes_sent - sent == len(model) - 4 * MIB
