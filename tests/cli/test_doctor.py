"""The doctor and the bundle, on this machine."""

import json
import tarfile

from tests.fakes.home import Home

NAMES = """settings binary backend driver plan port nofile memlock swap service""".split()


def test_the_doctor_names_what_it_looked_at_and_changes_nothing(home: Home) -> None:
    ran = home.run("--json", "doctor", "--profile", "demo", QWENCTL_SERVER__PORT=str(home.port))
    checks = json.loads(ran.out)["data"]["checks"]
    found = {check["name"]: check for check in checks}
    assert set(NAMES) <= set(found)
    assert all(check["looked_at"] and check["finding"] for check in checks)
    assert all(check["fix"] for check in checks if check["verdict"] == "problem")
    assert (ran.code == 1) == any(check["verdict"] == "problem" for check in checks)
    assert not home.state.exists()


def test_the_doctor_exits_1_and_says_what_helps(bare_home: Home) -> None:
    ran = bare_home.run("doctor", "--profile", "demo", QWENCTL_SERVER__BINARY="/nowhere")
    assert ran.code == 1
    assert "PROBLEM  binary" in ran.out
    assert "-> qwenctl engine install" in ran.out
    wrong = bare_home.run("doctor", QWENCTL_CONTEXT__TOKENS="x")
    assert wrong.code == 1
    assert "PROBLEM  settings" in wrong.out


def test_the_doctor_finds_what_keeps_up_from_starting_and_says_it_in_the_same_words(home: Home) -> None:
    """``plan`` has nothing to complain of here: only the command line is wrong."""
    wrong = {"QWENCTL_SERVER__EXTRA_ARGS": '["--nope"]', "QWENCTL_SERVER__PORT": str(home.port)}
    up = home.json("up", "--profile", "demo", **wrong)
    ran = home.run("--json", "doctor", "--profile", "demo", **wrong)
    assert (up["ok"], ran.code) == (False, 1)
    found = {check["name"]: check for check in json.loads(ran.out)["data"]["checks"]}
    assert found["plan"]["verdict"] == "ok"
    assert found["command line"]["verdict"] == "problem"
    assert found["command line"]["finding"] == up["error"]["message"]
    assert found["command line"]["fix"] == up["error"]["hint"]
    assert up["error"]["hint"] == "remove --nope from [server] extra_args, or use a llama-server that has it"
    right = home.json("doctor", "--profile", "demo", QWENCTL_SERVER__PORT=str(home.port))["data"]["checks"]
    assert [check["verdict"] for check in right if check["name"] == "command line"] == ["ok"]


def test_the_bundle_is_listed_first_and_holds_no_secret(bare_home: Home) -> None:
    bare_home.state.mkdir(parents=True)
    keys = bare_home.path / "keys"
    keys.write_text("sesame-open\n")
    (bare_home.state / "server.log").write_text(
        'key sesame-open or given-open\nrequest: {"prompt": "Dear diary"}\nloaded\n'
    )
    (bare_home.state / "events.jsonl").write_text('{"event": "spawned"}\n')
    private = {"QWENCTL_SERVER__API_KEY_FILE": str(keys), "QWENCTL_API_KEY": "given-open"}
    unasked = bare_home.run("support-bundle", "--profile", "demo", **private)
    assert unasked.code == 2
    assert "server.log" in unasked.err
    assert not (bare_home.path / "qwenctl-support.tar.gz").exists()
    ran = bare_home.run("support-bundle", "--profile", "demo", "--yes", **private)
    assert ran.code == 0, ran
    bundle = bare_home.path / "qwenctl-support.tar.gz"
    assert bundle.stat().st_mode & 0o777 == 0o600
    texts = {}
    with tarfile.open(bundle) as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            assert file is not None
            texts[entry.name.removeprefix("qwenctl-support/")] = file.read().decode()
    assert {"doctor.txt", "hardware.json", "plan.json", "settings.json", "state/server.log"} <= set(texts)
    assert all(f" {name}\n" in ran.err + "\n" for name in texts)
    for text in texts.values():
        assert "sesame-open" not in text
        assert "given-open" not in text
        assert "diary" not in text
        assert str(bare_home.path) not in text
    assert "loaded" in texts["state/server.log"]
    assert json.loads(texts["settings.json"])["profile"]["value"] == "demo"
