"""Memory on a Mac: what macOS says of it counts, and no number of bytes.

A Mac that has been up for a day shows few free pages whatever runs. psutil's ``available`` of one is about
half of what macOS itself calls free.
"""

from pathlib import Path

import pytest

from qwenctl.deploy.free_memory import shortage, under_pressure
from qwenctl.hardware.apple import MemoryPressure, memory_pressure
from qwenctl.hardware.macos import read_memory_pressure
from qwenctl.hardware.saved import read_machine
from qwenctl.model.toml import load_profile
from qwenctl.paths import data_root
from qwenctl.plan.outcome import Plan
from qwenctl.plan.planner import plan
from qwenctl.settings.types import Settings
from tests.darwin.mac import Mac
from tests.fakes.home import until

LEVEL = "kern.memorystatus_vm_pressure_level"
SOON = 30.0
MACHINES = Path(__file__).parents[1] / "machines"


def short(machine: str, pressure: MemoryPressure | None) -> str | None:
    """Return why the profile's plan for a machine would not start now."""
    hardware = read_machine(MACHINES / f"{machine}.json")
    profile = load_profile("qwen3.6-27b", data_root() / "profiles", data_root() / "profiles")
    chosen = plan(hardware, profile, Settings())
    assert isinstance(chosen, Plan)
    ending = shortage(chosen, hardware, lambda: pressure)
    return ending.summary if ending is not None else None


@pytest.mark.parametrize("pressure", [MemoryPressure(1, 38), MemoryPressure(2, 12), None])
def test_only_critical_pressure_keeps_a_server_from_its_start(pressure: MemoryPressure | None) -> None:
    assert short("m3-max-36gb", pressure) is None


def test_critical_pressure_is_said_with_who_holds_the_memory_and_makes_no_smaller_plan() -> None:
    ending = under_pressure(MemoryPressure(4, 7))
    assert ending is not None
    assert "critical, 7 % of the memory is free" in ending.summary
    assert "held by pid" in ending.summary
    assert not ending.smaller_helps


@pytest.mark.parametrize(
    ("said", "pressure"),
    [
        ("kern.memorystatus_vm_pressure_level: 2\nkern.memorystatus_level: 31\n", MemoryPressure(2, 31)),
        ("kern.memorystatus_vm_pressure_level: 4\n", MemoryPressure(4)),
        ("kern.memorystatus_level: 31\n", None),
        ("kern.memorystatus_vm_pressure_level: much\n", None),
        ("", None),
        (None, None),
    ],
)
def test_a_reading_that_fails_is_unknown(said: str | None, pressure: MemoryPressure | None) -> None:
    assert read_memory_pressure(lambda _: said) == pressure
    assert memory_pressure({}) is None


def test_a_mac_with_few_free_pages_starts_and_one_under_critical_pressure_waits(mac: Mac) -> None:
    mac.change(vm_stat={"free": 90, "inactive": 200, "speculative": 10})
    mac.up()
    serving = mac.status()
    assert serving["ready"]
    assert serving["restarts"]["total"] == 0
    mac.change(sysctl={LEVEL: "4", "kern.memorystatus_level": "6"})
    restarting = mac.begun([str(mac.python), "-m", "qwenctl", "restart"])
    until(lambda: mac.status()["phase"] == "backoff", SOON)
    ending = mac.status()["last_ending"]
    assert ending["cause"] == "memory_busy"
    assert "macOS says that memory is short (pressure critical, 6 % of" in ending["summary"]
    assert "Activity Monitor" in ending["hint"]
    mac.change(sysctl={LEVEL: "2"})
    out, err = restarting.communicate(timeout=SOON)
    assert restarting.returncode == 0, (out, err)
    assert "waiting before the next try: macOS says that memory is short" in err
    now = mac.status()
    assert now["ready"]
    assert now["degraded"] is None
    assert now["plan"] == serving["plan"]
