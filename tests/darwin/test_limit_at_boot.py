"""Metal's limit, raised for good: shown first, checked after a restart, gone with the service."""

import json

from tests.darwin.mac import Mac

JOB = "system/qwenctl.wired-limit"


def limit_check(mac: Mac) -> tuple[str, str]:
    checks = json.loads(mac.run("--json", "--profile", "demo", "doctor").out)["data"]["checks"]
    (check,) = (each for each in checks if each["name"] == "metal limit")
    return check["verdict"], f"{check['finding']}; {check['fix']}"


def test_the_limit_outlives_a_restart_of_the_mac_and_doctor_sees_if_it_does_not(bare_mac: Mac) -> None:
    mac, most = bare_mac, 32440
    mac.boot()
    path = mac.system / "root/Library/LaunchDaemons/qwenctl.wired-limit.plist"
    shown = mac.run("service", "wired-limit", "max", "--yes")
    assert shown.code == 1
    assert f"<string>iogpu.wired_limit_mb={most}</string>" in shown.err
    assert f"sudo qwenctl service wired-limit {most}" in shown.err
    assert not path.exists()
    mac.change(root=True)
    unasked = mac.run("service", "wired-limit", "max")
    assert unasked.code == 2
    assert "add --yes" in unasked.err
    done = mac.run("service", "wired-limit", "max", "--yes")
    assert done.code == 0, done.err
    assert mac.facts["sysctl"]["iogpu.wired_limit_mb"] == str(most)
    assert mac.launchctl("print", JOB).code == 0
    mac.change(root=False)
    assert limit_check(mac)[0] == "ok"
    mac.change(sysctl={"iogpu.wired_limit_mb": "0"})  # a restart after which the job did not run
    verdict, said = limit_check(mac)
    assert verdict == "problem"
    assert f"{most} MiB were to be set" in said
    mac.change(root=True)
    assert mac.run("service", "uninstall").code == 0
    assert not path.exists()
    assert mac.launchctl("print", JOB).code == 113
