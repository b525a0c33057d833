"""A hub that misbehaves. Every case ends in a verified file or in one clear error; no range is lost."""

import asyncio
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.errors import ExitCode, FetchError
from qwenctl.fetch.artifact import fetch
from qwenctl.fetch.retry import RetryPolicy
from tests.fakes.desk import REQUEST, Desk
from tests.fakes.hub import COMMIT, REPO, Asked, FakeHub, Fault

MIB = 2**20


def test_a_file_arrives_whole_and_where_programs_look(desk: Desk) -> None:
    artifact = desk.fetch()
    desk.check(artifact)
    assert artifact.path == desk.hub().folder(REPO) / "snapshots" / COMMIT / "m.gguf"
    assert (desk.hub().folder(REPO) / "refs" / "main").read_text() == COMMIT
    assert sorted(path.name for path in desk.blobs.iterdir()) == [artifact.files[0].sha256]
    assert [progress.phase for progress in desk.seen][-1] == "done"
    assert desk.fake.bytes_sent == artifact.files[0].bytes


def test_wrong_bytes_of_the_right_length_are_never_kept(desk: Desk) -> None:
    desk.fake.faults = lambda asked: Fault(flip=True) if asked.kind == "bytes" and asked.number == 3 else None
    with pytest.raises(FetchError, match=r"cannot verify m\.gguf: its sha256 is") as caught:
        desk.fetch()
    assert caught.value.exit_code == ExitCode.FETCH
    assert list(desk.blobs.iterdir()) == []
    desk.check(desk.fetch())


def test_a_short_file_is_one_clear_error(desk: Desk) -> None:
    desk.fake.faults = lambda asked: Fault(total=4 * MIB) if asked.kind == "bytes" else None
    with pytest.raises(FetchError, match=f"it has {4 * MIB} bytes, the hub lists|it has no byte"):
        desk.fetch()
    desk.nothing_wrong_in_cache()


def test_a_range_beyond_the_end_is_one_clear_error(desk: Desk) -> None:
    desk.fake.faults = lambda asked: Fault(status=416) if asked.kind == "bytes" else None
    with pytest.raises(FetchError, match="it has no byte"):
        desk.fetch()


def test_an_etag_that_changes_between_ranges_is_checked_against_the_hub(desk: Desk) -> None:
    desk.fake.faults = lambda asked: (
        Fault(etag='"storage-2"') if asked.kind == "bytes" and asked.number >= 3 else None
    )
    desk.check(desk.fetch(replace(REQUEST, connections=1)))
    assert desk.fake.count("resolve") == 2


def test_an_etag_of_its_own_for_each_machine_of_the_storage_does_no_harm(desk: Desk) -> None:
    desk.fake.faults = lambda asked: (
        Fault(etag=f'"machine-{asked.number}"') if asked.kind == "bytes" else None
    )
    desk.check(desk.fetch())


def test_a_file_that_is_another_one_by_now_is_refused(desk: Desk) -> None:
    desk.fake.linked_etag = "0" * 64
    with pytest.raises(FetchError, match="the hub now has another file there"):
        desk.fetch()
    assert desk.downloads() == 0


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
def test_a_refusal_says_what_to_do(desk: Desk, kind: str, fault: Fault, message: str, hint: str) -> None:
    desk.fake.faults = lambda asked: fault if asked.kind == kind else None
    with pytest.raises(FetchError, match=message) as caught:
        desk.fetch()
    assert hint in (caught.value.hint or "")
    assert desk.slept == []


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
def test_garbage_in_the_metadata_is_one_clear_error(desk: Desk, body: bytes) -> None:
    desk.fake.faults = lambda asked: Fault(body=body) if asked.kind == "info" else None
    with pytest.raises(FetchError, match="makes no sense"):
        desk.fetch()


@pytest.mark.parametrize(
    "name", ["../../../evil.gguf", "/etc/evil.gguf", "a/../b.gguf", "a\\b.gguf", "./m.gguf"]
)
def test_a_name_that_leaves_the_cache_is_no_file(desk: Desk, name: str, model: bytes) -> None:
    desk.fake.files = {name: model}
    with pytest.raises(FetchError, match="no such file"):
        desk.fetch(replace(REQUEST, files=(), pattern="*.gguf"))


def test_a_busy_storage_is_given_the_time_it_asks_for(desk: Desk) -> None:
    busy = Fault(status=429, headers={"Retry-After": "7"})
    desk.fake.faults = lambda asked: busy if asked.kind == "bytes" and asked.number == 2 else None
    desk.check(desk.fetch())
    assert desk.slept == [7.0]


def test_a_busy_storage_that_names_no_time_is_asked_later_and_later(desk: Desk) -> None:
    desk.fake.faults = lambda asked: Fault(status=429) if asked.kind == "bytes" and asked.number < 3 else None
    desk.check(desk.fetch(replace(REQUEST, connections=1)))
    assert desk.slept == [0.25, 0.5, 1.0]


def test_a_busy_hub_is_asked_again(desk: Desk) -> None:
    busy = Fault(status=429, headers={"Retry-After": "3"})
    desk.fake.faults = lambda asked: busy if asked.kind == "info" and asked.number == 0 else None
    desk.check(desk.fetch())
    assert desk.slept == [3.0]


def test_a_storm_of_500_passes(desk: Desk) -> None:
    desk.fake.faults = lambda asked: Fault(status=500) if asked.kind == "bytes" and asked.number % 3 else None
    desk.check(desk.fetch())


def test_a_storage_that_is_down_is_one_clear_error_and_nothing_is_lost(desk: Desk) -> None:
    desk.fake.faults = lambda asked: (
        Fault(status=500) if asked.kind == "bytes" and asked.number >= 3 else None
    )
    with pytest.raises(
        FetchError, match="12 tries in a row failed, the last one: the storage answers 500"
    ) as caught:
        desk.fetch(replace(REQUEST, connections=1))
    assert "kept" in (caught.value.hint or "")
    desk.fake.faults = lambda _asked: None
    before = desk.fake.bytes_sent
    artifact = desk.fetch(replace(REQUEST, connections=1))
    desk.check(artifact)
    assert desk.fake.bytes_sent - before == artifact.files[0].bytes - 4 * MIB


def test_resets_in_the_middle_cost_only_what_was_on_the_way(desk: Desk, model: bytes) -> None:
    desk.fake.faults = lambda asked: (
        Fault(reset_after=400_000) if asked.kind == "bytes" and asked.number % 2 == 0 else None
    )
    desk.check(desk.fetch())
    assert desk.fake.bytes_sent < 1.6 * len(model)


def test_a_connection_that_hangs_is_given_up(desk: Desk) -> None:
    desk.patience = RetryPolicy(stall_s=0.3)
    desk.fake.faults = lambda asked: (
        (Fault(hang_after=300_000) if asked.number == 1 else Fault(hang=True) if asked.number == 3 else None)
        if asked.kind == "bytes"
        else None
    )
    desk.check(desk.fetch())
    assert desk.slept == [0.25, 0.25]


def test_a_server_without_ranges_gives_one_stream(desk: Desk) -> None:
    desk.fake.faults = lambda asked: Fault(ignore_range=True) if asked.kind == "bytes" else None
    desk.check(desk.fetch())
    whole = [asked for asked in desk.fake.log if asked.kind == "bytes" and asked.range is None]
    assert len(whole) == 1


def test_a_stream_without_ranges_that_breaks_keeps_what_it_finished(desk: Desk) -> None:
    def faults(asked: Asked) -> Fault | None:
        if asked.kind != "bytes":
            return None
        return Fault(
            ignore_range=True, reset_after=3 * MIB + 5 if asked.range is None and asked.number < 8 else None
        )

    desk.fake.faults = faults
    desk.check(desk.fetch())


def test_a_link_that_expires_is_renewed(desk: Desk) -> None:
    desk.fake.link_uses = 2
    desk.check(desk.fetch(replace(REQUEST, connections=1)))
    assert desk.fake.count("resolve") == 3
    assert desk.slept == [0.0, 0.0]


def test_a_link_that_is_refused_however_fresh_is_one_clear_error(desk: Desk) -> None:
    desk.fake.faults = lambda asked: Fault(status=403) if asked.kind == "bytes" else None
    with pytest.raises(FetchError, match="it answers 403 to a link of the hub"):
        desk.fetch()


def test_a_hub_that_serves_the_bytes_itself_is_fine(desk: Desk) -> None:
    desk.fake.redirect = False
    desk.token = "hf_secret"
    desk.check(desk.fetch())
    assert all(asked.headers["Authorization"] == "Bearer hf_secret" for asked in desk.fake.log)


def test_the_token_goes_to_the_hub_and_to_nobody_else(desk: Desk) -> None:
    desk.token = "hf_secret"
    desk.check(desk.fetch())
    sent = {
        asked.kind: asked.headers.get("Authorization", asked.headers.get("authorization"))
        for asked in desk.fake.log
    }
    assert sent == {"info": "Bearer hf_secret", "resolve": "Bearer hf_secret", "bytes": None}
    assert "hf_secret" not in repr(desk.hub())


def test_an_error_shows_no_token_and_no_signed_link(desk: Desk) -> None:
    desk.token = "hf_secret"
    desk.fake.faults = lambda asked: Fault(status=403) if asked.kind == "bytes" else None
    with pytest.raises(FetchError) as caught:
        desk.fetch()
    assert not re.search("hf_secret|signature|key=", f"{caught.value.message} {caught.value.hint}")


def test_a_hub_that_cannot_be_reached_is_one_clear_error(desk: Desk, model: bytes) -> None:
    with FakeHub({"m.gguf": model}) as gone:
        pass
    desk.fake = gone
    with pytest.raises(FetchError, match=r"cannot reach http://127\.0\.0\.1:"):
        desk.fetch()
    assert desk.slept == [0.25, 0.5, 1.0, 2.0, 4.0]


def test_nothing_is_asked_for_before_the_disk_was_looked_at(desk: Desk) -> None:
    desk.margin_bytes = 10**18
    with pytest.raises(
        FetchError, match=r"more bytes and 1000000000000000000 of margin are needed, \d+ are free"
    ):
        desk.fetch()
    assert desk.downloads() == desk.fake.count("resolve") == 0


def test_two_fetchers_move_the_file_once_and_the_second_says_that_it_waits(desk: Desk, model: bytes) -> None:
    desk.fake.latency_s = 0.05
    other = Desk(desk.fake, desk.folder)
    other_artifacts = []
    thread = threading.Thread(target=lambda: other_artifacts.append(other.fetch()))
    thread.start()
    artifact = desk.fetch()
    thread.join()
    desk.check(artifact)
    assert other_artifacts[0].path == artifact.path
    assert desk.fake.bytes_sent == len(model)
    assert "waiting" in {progress.phase for progress in (*desk.seen, *other.seen)}


def test_the_hub_is_asked_for_nothing_a_transfer_does_not_need(desk: Desk, tmp_path: Path) -> None:
    assert tmp_path.exists()
    desk.fetch()
    assert [asked.kind for asked in desk.fake.log] == ["info", "resolve"] + ["bytes"] * 6
    assert "agent" not in desk.fake.log[0].headers.get("User-Agent", "")


def test_a_fetch_that_is_cancelled_keeps_its_ranges_and_frees_its_lock(desk: Desk, model: bytes) -> None:
    desk.fake.faults = lambda asked: Fault(hang=True) if asked.kind == "bytes" and asked.number >= 3 else None

    async def cancelled() -> None:
        work = asyncio.create_task(
            fetch(
                replace(REQUEST, connections=1),
                lambda _progress: None,
                state_dir=desk.state,
                hub=desk.hub(),
                world=desk.world(),
            )
        )
        while desk.downloads() < 4:  # noqa: ASYNC110 - the hub lives in another thread
            await asyncio.sleep(0.001)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(cancelled())
    desk.fake.faults = lambda _asked: None
    sent = desk.fake.bytes_sent
    desk.check(desk.fetch())
    assert desk.fake.bytes_sent - sent == len(model) - 4 * MIB
