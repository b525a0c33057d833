"""What doctor judges on a Mac only."""

import pytest

from qwenctl.hardware.apple import MemoryPressure, low_power_mode
from qwenctl.hardware.facts import Accelerator
from qwenctl.plan.budget import reserved_ram
from qwenctl.service import diagnosis, mac_diagnosis
from qwenctl.service.diagnosis import CheckVerdict

GIB = 1 << 30
RAM = 36 * GIB


@pytest.mark.parametrize(
    ("pressure", "verdict"),
    [
        (MemoryPressure(1, 38), "ok"),
        (MemoryPressure(2, 12), "note"),
        (MemoryPressure(4, 3), "problem"),
        (None, "ok"),
    ],
)
def test_pressure_is_a_problem_where_it_keeps_a_server_from_its_start(
    pressure: MemoryPressure | None, verdict: CheckVerdict
) -> None:
    check = mac_diagnosis.memory_pressure(pressure)
    assert check.verdict == verdict
    assert bool(check.fix) == (verdict != "ok")


@pytest.mark.parametrize(
    ("limit", "kept_mib", "verdict", "fix"),
    [
        (None, None, "ok", None),
        (30 * GIB, 30 * 1024, "ok", None),
        (30 * GIB, None, "note", "sudo qwenctl service wired-limit 30720"),
        (None, 30 * 1024, "problem", "sudo qwenctl service wired-limit 30720"),
        (34 * GIB, None, "problem", "sudo sysctl iogpu.wired_limit_mb=32440"),
    ],
)
def test_metals_limit_leaves_enough_to_macos_and_outlives_a_restart(
    limit: int | None, kept_mib: int | None, verdict: CheckVerdict, fix: str | None
) -> None:
    gpu = Accelerator("MTL0", "Apple M3 Max", "metal", "unified", RAM, limit or 27 * GIB, None, limit)
    check = mac_diagnosis.metal_limit(gpu, RAM, RAM - reserved_ram(RAM), kept_mib)
    assert (check.verdict, check.fix) == (verdict, fix)


def test_a_downloaded_program_and_a_slowed_chip_are_found() -> None:
    check = mac_diagnosis.quarantine("/b/llama-server", "/b", marked=True)
    assert check.fix == "xattr -dr com.apple.quarantine /b"
    assert mac_diagnosis.quarantine("/b/llama-server", "/b", marked=False).verdict == "ok"
    verdicts = [mac_diagnosis.low_power_mode(on=on).verdict for on in (True, False, None)]
    assert verdicts == ["note", "ok", "ok"]


@pytest.mark.parametrize(
    ("said", "on"),
    [
        ("Currently in use:\n lowpowermode         1\n womp                 1\n", True),
        ("Currently in use:\n powermode            1\n", True),
        ("Currently in use:\n powermode            2\n lowpowermode         0\n", False),
        (" highpowermode        1\n sleep                1 (sleep prevented by sharingd)\n", False),
        ("", False),
    ],
)
def test_low_power_mode_is_read_from_what_pmset_prints(said: str, on: bool) -> None:  # noqa: FBT001
    assert low_power_mode(said) is on


def test_what_helps_is_of_this_system() -> None:
    assert "limits.conf" not in str(diagnosis.memlock(65536, wanted=True, system="darwin").fix)
    assert diagnosis.driver((), "darwin").looked_at == "sysctl"
