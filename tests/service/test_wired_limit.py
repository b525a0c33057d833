"""Which limit a person may ask for, and the file that sets it."""

import plistlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from qwenctl.errors import ControlError, SettingsError
from qwenctl.hardware.facts import Hardware
from qwenctl.hardware.saved import read_machine
from qwenctl.service.command import Ran
from qwenctl.service.wired_limit import drop, keep, kept_mib, lost_limits, mib_of, text_of, wanted_mib

MACHINES = Path(__file__).parents[1] / "machines"


def machine(name: str) -> Hardware:
    return read_machine(MACHINES / f"{name}.json")


@pytest.mark.parametrize(("name", "most"), [("m2-16gb", 13824), ("m3-max-36gb", 32440)])
def test_at_most_so_much_that_macos_keeps_its_part(name: str, most: int) -> None:
    """2.5 GiB or 12 % of the RAM, whichever is more."""
    hardware = machine(name)
    assert wanted_mib("max", hardware) == wanted_mib(str(most), hardware) == most
    with pytest.raises(SettingsError, match="macOS needs some memory") as refused:
        wanted_mib(str(most + 1), hardware)
    assert str(most) in str(refused.value.hint)


@pytest.mark.parametrize("asked", ["0", "-1", "all", "1e9", "١٢", ""])
def test_what_is_no_number_is_refused(asked: str) -> None:
    with pytest.raises(SettingsError, match="no number of MiB"):
        wanted_mib(asked, machine("m2-16gb"))


@pytest.mark.parametrize(("name", "own"), [("m2-16gb", 10922), ("m3-max-36gb", 27648)])
def test_less_than_macos_allows_by_itself_is_refused(name: str, own: int) -> None:
    assert wanted_mib(str(own), machine(name)) == own
    with pytest.raises(SettingsError, match=f"macOS' own, about {own} MiB"):
        wanted_mib(str(own - 1), machine(name))


def test_the_file_says_what_it_sets() -> None:
    job = plistlib.loads(text_of(13824).encode())
    assert job["ProgramArguments"] == ["/usr/sbin/sysctl", "iogpu.wired_limit_mb=13824"]
    assert job["RunAtLoad"] is True
    assert mib_of(text_of(13824)) == 13824
    assert [mib_of(text) for text in ("", "garbage", "<plist><array/></plist>")] == [None] * 3


def test_a_file_that_launchd_refuses_is_removed_again_and_a_kept_one_is_left(tmp_path: Path) -> None:
    path, asked = tmp_path / "job.plist", []

    def run(words: Sequence[str]) -> Ran:
        asked.append(words[1])
        return Ran(5 if words[1] == "bootstrap" and refuses else 0, "", "Bootstrap failed: 5: why")

    refuses = True
    with pytest.raises(ControlError, match="bootstrap failed: 5"):
        keep(13824, run, path)
    assert kept_mib(path) is None
    refuses = False
    assert len(keep(13824, run, path)) == 2
    asked.clear()
    assert keep(13824, run, path) == ["set iogpu.wired_limit_mb to 13824"]
    assert asked == ["iogpu.wired_limit_mb=13824"]
    (warning,) = lost_limits(machine("m2-16gb"), path)
    assert "13824 MiB" in warning
    assert drop(run, path)[-1] == "set iogpu.wired_limit_mb to 0 (the default of macOS)"
    assert drop(run, path) == lost_limits(machine("m2-16gb"), path) == []
