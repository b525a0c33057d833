"""What is written is bounded, and is read to its end however the files turn over."""

import json
from pathlib import Path

from qwenctl.control.log_reader import LogReader
from qwenctl.daemon.event_log import FILE_BYTES, FILES_KEPT, REMEMBERED, EventLog
from qwenctl.supervise.logfile import LogFile


def test_events_are_json_lines_with_a_time_and_a_name(tmp_path: Path) -> None:
    journal = EventLog(tmp_path / "events.jsonl")
    journal.note("child_ready", child=3)
    (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
    event = json.loads(line)
    assert event.pop("at").endswith("Z")
    assert event == {"event": "child_ready", "child": 3}


def test_the_event_log_is_bounded(tmp_path: Path) -> None:
    journal = EventLog(tmp_path / "events.jsonl")
    for _ in range(60):
        journal.note("child_ended", log_tail=["x" * 1000] * 100)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == FILES_KEPT + 1
    assert max(sizes) <= FILE_BYTES


def test_events_are_remembered_when_the_disk_is_full() -> None:
    journal = EventLog(Path("/dev/full"))
    journal.note("daemon_started")
    journal.note("child_ready")
    assert journal.error == "cannot write /dev/full: no space left on device"
    assert [json.loads(line)["event"] for line in journal.since(1)] == ["child_ready"]
    assert len(journal.since(0)) == 2
    assert journal.since(2) == []


def test_events_that_a_full_disk_refused_are_written_once_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.symlink_to("/dev/full")
    journal = EventLog(path)
    journal.note("daemon_started")
    journal.note("child_ready")
    path.unlink()
    journal.mend()
    journal.mend()
    journal.note("draining")
    told = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert told == ["daemon_started", "child_ready", "draining"]
    assert journal.error is None


def test_only_so_many_events_are_remembered(tmp_path: Path) -> None:
    journal = EventLog(tmp_path / "events.jsonl")
    for number in range(REMEMBERED + 5):
        journal.note("x", number=number)
    lines = journal.since(0)
    assert len(lines) == REMEMBERED
    assert json.loads(lines[0])["number"] == 5


def test_long_events_do_not_fill_the_memory(tmp_path: Path) -> None:
    journal = EventLog(tmp_path / "events.jsonl")
    for number in range(100):
        journal.note("child_ended", number=number, log_tail=["x" * 100] * 100)
    lines = journal.since(0)
    assert 20 < len(lines) < 40
    assert json.loads(lines[-1])["number"] == 99


def test_a_follower_reads_on_in_the_new_file_when_the_old_one_is_full(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "s.log", max_bytes=30, keep=2)
    follower = LogReader(tmp_path / "s.log")
    assert follower.last(5) == []
    seen = []
    for number in range(20):
        log.write(b"line %d\n" % number)
        while more := follower.more():
            seen += more
    assert seen == [f"line {number}" for number in range(20)]
    follower.close()


def test_a_follower_begins_with_the_last_lines_of_both_parts(tmp_path: Path) -> None:
    (tmp_path / "s.log.1").write_text("one\ntwo\n")
    (tmp_path / "s.log").write_text("three\nfo")
    follower = LogReader(tmp_path / "s.log")
    assert follower.last(2) == ["two", "three"]
    with (tmp_path / "s.log").open("a") as file:
        file.write("ur\n")
    assert follower.more() == ["four"]
    follower.close()


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    (tmp_path / "s.log").write_bytes(b"x" * 1_000_000)
    follower = LogReader(tmp_path / "s.log")
    lines = follower.last(100)
    follower.close()
    assert sum(map(len, lines)) >= 900_000
