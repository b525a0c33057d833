"""The doctor on a healthy Mac, and on one with everything that it knows to look for."""

import json

from tests.darwin.mac import Mac
from tests.fakes.home import Ran

MAC_ONLY = {"metal limit", "quarantine", "memory pressure", "low power mode"}
LINUX_ONLY = {"gpu access", "swap", "linger"}
WORDS_OF_LINUX = ("/dev/nvidia", "limits.conf", "NVML", "sysfs", "swap devices", "systemd")


def checks(ran: Ran) -> dict[str, dict[str, str]]:
    """The checks by their names."""
    return {one["name"]: one for one in json.loads(ran.out)["data"]["checks"]}


def test_the_doctor_finds_nothing_on_a_healthy_mac_and_each_fault_on_a_sick_one(mac: Mac) -> None:
    healthy = mac.run("--json", "doctor", QWENCTL_SERVER__PORT=str(mac.port))
    assert healthy.code == 0, healthy
    found = checks(healthy)
    assert {one["verdict"] for one in found.values()} == {"ok"}
    assert found.keys() >= MAC_ONLY
    assert not found.keys() & LINUX_ONLY
    assert not any(word in healthy.out for word in WORDS_OF_LINUX)

    mac.change(
        sysctl={"kern.memorystatus_vm_pressure_level": "4", "iogpu.wired_limit_mb": "35000"},
        quarantined=["/opt/homebrew/bin/llama-server"],
        low_power_mode=True,
    )
    sick = mac.run("--json", "doctor", QWENCTL_SERVER__PORT=str(mac.port))
    assert sick.code == 1
    worse = {name for name, one in checks(sick).items() if one["verdict"] != "ok"}
    assert worse == MAC_ONLY
    assert checks(sick)["quarantine"]["fix"] == "xattr -dr com.apple.quarantine /opt/homebrew/bin"


def test_workers_on_other_machines_may_be_out_of_reach(bare_mac: Mac) -> None:
    """No server is there that could ask them."""
    bare_mac.settle(server='binary = "/nowhere"\nrpc = ["127.0.0.1:50052", "studio.local:50052"]')
    said = checks(bare_mac.run("--json", "doctor"))["local network"]
    assert said["verdict"] == "note"
    assert "[server] rpc has studio.local:50052" in said["finding"]
    assert "Local Network" in said["fix"]
