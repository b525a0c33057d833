"""What a person meets on a Mac beside the server: a taken port, a bundle, messages to a service manager."""

import json
import socket
import sys
import tarfile

from tests.darwin.mac import Mac
from tests.fakes.home import until

HOLD = "import socket, sys, time; s = socket.create_server((sys.argv[1], int(sys.argv[2]))); time.sleep(100)"


def test_who_holds_a_port_is_named(bare_mac: Mac) -> None:
    """psutil may not list connections there. A program on all addresses holds the port of one, too."""
    with bare_mac.begun([sys.executable, "-c", HOLD, "0.0.0.0", str(bare_mac.port)]) as holder:
        try:
            _until_open(bare_mac.port)
            checks = bare_mac.json("doctor", "--profile", "demo", QWENCTL_SERVER__PORT=str(bare_mac.port))
            [check] = [each for each in checks["data"]["checks"] if each["name"] == "port"]
            assert check["verdict"] == "problem"
            assert f"by pid {holder.pid} (" in check["finding"]
        finally:
            holder.kill()


def test_a_support_bundle_has_the_version_of_macos_and_valid_json(bare_mac: Mac) -> None:
    path = bare_mac.path / "bundle.tar.gz"
    ran = bare_mac.run("support-bundle", "--yes", "-o", str(path), "--profile", "demo")
    assert ran.code == 0, ran.err
    with tarfile.open(path) as archive:
        texts = {each.name.rpartition("/")[2]: archive.extractfile(each) for each in archive}
        files = {name: file.read().decode() for name, file in texts.items() if file is not None}
    versions = json.loads(files["versions.json"])
    assert versions["macos"] == "15.6.1"
    assert "Darwin" in versions["platform"] or "macOS" in versions["platform"]
    for name in ("hardware.json", "settings.json"):
        json.loads(files[name])


def test_messages_to_a_service_manager_need_nothing_of_linux(bare_mac: Mac) -> None:
    path = bare_mac.path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(10)
        code = "import sys; from qwenctl.daemon.sd_notify import Notifier; Notifier(sys.argv[1]).ready()"
        ran = bare_mac.command([str(bare_mac.python), "-c", code, str(path)])
        assert (ran.code, ran.err) == (0, "")
        assert manager.recv(100) == b"READY=1"


def _until_open(port: int) -> None:
    def answers() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    until(answers, within=10)
