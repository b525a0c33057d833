"""macOS ends programs with SIGKILL when memory is short. That is no person's kill."""

import asyncio
import json
import os
from functools import partial
from pathlib import Path

import pytest

from qwenctl.hardware.apple import MemoryPressure
from qwenctl.supervise.jetsam import PressureWatch, ended_for_memory, names
from tests.darwin.mac import Mac
from tests.fakes.home import kill, until

SOON = 30.0
LEVEL = "kern.memorystatus_vm_pressure_level"
NORMAL, WARNING = MemoryPressure(1), MemoryPressure(2)


def report(pid: int, reason: str | None, name: str = "llama-server") -> str:
    """Return a report. Source of the form: pastebin xDRLF3u4 and Apple's article on jetsam event reports."""
    head = {
        "bug_type": "298",
        "timestamp": "2026-03-02 10:11:12.00 +0100",
        "os_version": "macOS 15.6.1 (24G90)",
    }
    row: dict[str, object] = {"uuid": "14350be0", "states": ["active"], "rpages": 1, "pid": pid, "name": name}
    if reason is not None:
        row["reason"] = reason
    other = {"pid": 1, "name": "launchd", "rpages": 900, "states": ["daemon"]}
    body = {"largestProcess": name, "memoryStatus": {"pageSize": 16384}, "processes": [other, row]}
    return json.dumps(head) + "\n" + json.dumps(body, indent=2)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (report(7, "vm-compressor-space-shortage"), True),
        (report(7, "vm-pageshortage", "a wrapper"), True),
        (report(8, "vm-pageshortage"), True),
        (report(8, "vm-pageshortage", "Safari"), False),
        (report(7, "idle-exit"), False),
        (report(7, None), False),
        ("", False),
        ("{}\n[1]", False),
        ('{}\n{"processes": [3]}', False),
    ],
)
def test_a_report_names_who_was_ended_and_lists_everybody(text: str, named: bool) -> None:  # noqa: FBT001
    assert names(text, 7, by_name=True) is named
    assert names(text, 7, by_name=False) is (named and '"pid": 7' in text)


def test_a_report_of_an_earlier_process_and_one_that_cannot_be_read_say_nothing(tmp_path: Path) -> None:
    old, new = tmp_path / "JetsamEvent-1.ips", tmp_path / "JetsamEvent-2.ips"
    old.write_text(report(7, "vm-pageshortage"))
    os.utime(old, (100, 100))
    new.mkdir()
    folders = (tmp_path / "none", tmp_path)
    assert not ended_for_memory(7, 200, spoke=True, pressure=lambda: NORMAL, folders=folders)
    assert ended_for_memory(7, 50, spoke=True, pressure=lambda: NORMAL, folders=folders)


def test_a_report_of_another_server_counts_at_its_time_only(tmp_path: Path) -> None:
    """It may be of the server before, or of another program's; or of ours, if we started a script."""
    other = tmp_path / "JetsamEvent-1.ips"
    other.write_text(report(8, "vm-pageshortage"))
    os.utime(other, (1000, 1000))

    def ended(pid: int, at: float) -> bool:
        ask = partial(ended_for_memory, pid, 900, spoke=True, pressure=lambda: NORMAL)
        return ask(folders=(tmp_path,), now=lambda: at)

    assert ended(7, 1030)
    assert not ended(7, 1100)
    assert ended(8, 5000)


@pytest.mark.parametrize(
    ("pressure", "spoke", "ended"),
    [(NORMAL, True, False), (WARNING, True, True), (WARNING, False, False), (None, True, False)],
)
def test_pressure_counts_once_the_program_has_begun(
    tmp_path: Path,
    pressure: MemoryPressure | None,
    spoke: bool,  # noqa: FBT001
    ended: bool,  # noqa: FBT001
) -> None:
    assert ended_for_memory(7, 0, spoke=spoke, pressure=lambda: pressure, folders=(tmp_path,)) is ended


def test_pressure_shortly_before_the_end_counts_as_well(tmp_path: Path) -> None:
    """The end of a large program is what takes the pressure away."""
    said = iter([None, NORMAL, WARNING])

    async def go() -> bool:
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def pressure() -> MemoryPressure | None:
            try:
                return next(said)
            except StopIteration:  # what was said is known by now
                loop.call_soon_threadsafe(over.set)
                return NORMAL

        watch = PressureWatch(pressure, every_s=0.001)
        assert not watch.was_short()
        async with asyncio.timeout(10):
            await over.wait()
        watch.close()
        return watch.was_short()

    assert asyncio.run(go())
    ask = partial(ended_for_memory, 7, 0, pressure=lambda: NORMAL, folders=(tmp_path,))
    assert ask(spoke=True, was_short=True)
    assert not ask(spoke=True, was_short=False)
    assert not ask(spoke=False, was_short=True)


def test_a_kill_by_macos_leads_to_something_smaller_and_a_persons_kill_does_not(mac: Mac) -> None:
    mac.scripted()
    mac.up("--ctx", "65536")

    def killed() -> str:
        """Kill the server; return the cause, once another one serves."""
        before = mac.status()
        kill(before["pid"])
        until(lambda: mac.status()["restarts"]["total"] > before["restarts"]["total"], SOON)
        cause = str(mac.status()["last_ending"]["cause"])
        until(lambda: mac.status()["ready"], SOON)
        return cause

    def smaller_plans() -> int:
        return (mac.state / "events.jsonl").read_text().count('"degraded"')

    assert killed() == "killed"
    assert smaller_plans() == 0
    mac.change(sysctl={LEVEL: "2"})
    assert killed() == "host_out_of_memory"
    assert smaller_plans() == 1
    mac.change(sysctl={LEVEL: "1"})
    pid = mac.status()["pid"]
    reports = mac.system / "root/Library/Logs/DiagnosticReports"
    (reports / "JetsamEvent-2026-03-02-101112.ips").write_text(report(pid, "vm-pageshortage", "x"))
    assert killed() == "host_out_of_memory"
    assert smaller_plans() == 2
    assert "memory" in str(mac.status()["degraded"])
