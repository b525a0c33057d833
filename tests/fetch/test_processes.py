"""Kills, full and read-only disks, the environment: each needs a process of its own."""

import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.errors import ExitCode, FetchError
from qwenctl.fetch.cache import JOURNAL, PARTIAL
from qwenctl.fetch.disk import allocated_bytes
from tests.fakes import disk
from tests.fakes.fetcher import REQUEST, Fetcher
from tests.fakes.gguf_file import write_gguf
from tests.fakes.hub import REPO, FakeHub, Fault, HubRequest

ROOT = Path(__file__).parents[2]
MIB = 2**20


def start(fetcher: Fetcher, **environment: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.fetch_once", str(fetcher.folder)],
        cwd=ROOT,
        env=kept
        | {
            "HF_ENDPOINT": fetcher.fake.endpoint,
            "HF_HUB_CACHE": str(fetcher.cache),
            "HF_HOME": str(fetcher.folder / "home"),
        }
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(fetcher: Fetcher, **environment: str) -> subprocess.CompletedProcess[str]:
    process = start(fetcher, **environment)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def verified(fetcher: Fetcher, process: subprocess.CompletedProcess[str]) -> None:
    assert process.returncode == 0, process.stderr
    path = Path(process.stdout.strip())
    assert path.resolve().name == fetcher.fake.sha256("m.gguf")
    fetcher.nothing_wrong_in_cache()


def unnoted_bytes(partial: Path, journal: Path) -> int:
    """Return how many bytes are on the disk that the journal does not promise."""
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    return allocated_bytes(partial) - sum(line.isdigit() for line in lines) * MIB


@pytest.mark.chaos
def test_twenty_kills_cost_at_most_one_range_for_each_connection(fetcher: Fetcher, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    content = write_gguf(tmp_path / "big.gguf", bytes_=120 * MIB).read_bytes()
    fetcher.fake.files = {"m.gguf": content}
    kills = 0
    partial, journal = (fetcher.blobs / f"{fetcher.fake.sha256('m.gguf')}{end}" for end in (PARTIAL, JOURNAL))
    for _ in range(20):
        sent = fetcher.fake.bytes_sent
        unnoted = unnoted_bytes(partial, journal)  # of earlier kills: the next fetch need not begin with them
        process = start(fetcher)
        deadline = time.monotonic() + 30
        moment = sent + dice.randrange(10 * MIB)
        while fetcher.fake.bytes_sent < moment and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        kills += process.returncode == -signal.SIGKILL
        fetcher.nothing_wrong_in_cache()
        cost = unnoted_bytes(partial, journal) - unnoted
        assert cost <= REQUEST.connections * MIB + 2**16  # block rounding
    verified(fetcher, run(fetcher))
    assert kills > 10


def remount(folder: Path, option: str) -> None:
    mount = shutil.which("mount")
    assert mount is not None
    subprocess.run([mount, "-o", f"remount,{option}", folder], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk.small_disk(tmp_path / "disk", "4m") as folder:
        yield folder


def test_no_space_in_the_middle_is_one_clear_error_and_keeps_what_came(
    fetcher: Fetcher, small_disk: Path, model: bytes
) -> None:
    class Small(Fetcher):
        @property
        def cache(self) -> Path:
            return small_disk

        def fits(self) -> None:
            self.margin_bytes = -(10**12)  # the disk fills after it was looked at

    small = Small(fetcher.fake, fetcher.folder)
    small.fits()
    one = replace(REQUEST, connections=1)
    with pytest.raises(FetchError, match="no space left on device") as caught:
        small.fetch(one)
    assert caught.value.exit_code == ExitCode.FETCH
    sent = fetcher.fake.bytes_sent
    remount(small_disk, "size=20m")
    small.check(small.fetch(one))
    assert fetcher.fake.bytes_sent - sent == len(model) - 3 * MIB


def test_a_read_only_cache_is_one_clear_error_and_its_files_are_used(
    fetcher: Fetcher, small_disk: Path
) -> None:
    remount(small_disk, "size=20m")

    class Small(Fetcher):
        @property
        def cache(self) -> Path:
            return small_disk

    small = Small(fetcher.fake, fetcher.folder)
    remount(small_disk, "ro")
    with pytest.raises(FetchError, match=r"cannot write model cache .*: read-only file system") as caught:
        small.fetch()
    assert "HF_HOME" in (caught.value.hint or "")
    assert small.downloads() == 0
    remount(small_disk, "rw")
    small.fetch()
    shutil.rmtree(small.state)
    remount(small_disk, "ro")
    calls = small.downloads()
    small.check(small.fetch())
    assert small.downloads() == calls


def test_the_environment_names_the_hub_the_cache_and_the_token(fetcher: Fetcher) -> None:
    verified(fetcher, run(fetcher, HF_TOKEN="hf_fromenv"))
    assert {
        call.headers.get("Authorization", call.headers.get("authorization")) for call in fetcher.fake.log
    } == {
        "Bearer hf_fromenv",
        None,
    }
    assert [call.kind for call in fetcher.fake.log].count("other") == 0
    verified(fetcher, run(fetcher, HF_HUB_OFFLINE="1"))


def test_the_library_asks_for_no_list_of_agents(fetcher: Fetcher) -> None:
    done = run(fetcher, AGENT="something", AI_AGENT="something")
    verified(fetcher, done)
    assert all("/api/agent-harnesses" not in call.path for call in fetcher.fake.log)


def test_offline_never_touches_the_network(fetcher: Fetcher) -> None:
    done = run(fetcher, HF_HUB_OFFLINE="1")
    assert done.returncode == ExitCode.FETCH
    assert "offline" in done.stderr
    assert fetcher.fake.log == []


def test_a_proxy_is_used(fetcher: Fetcher) -> None:
    with FakeHub({}) as proxy:
        proxy.faults = lambda _call: Fault(status=407)
        done = run(fetcher, HTTP_PROXY=proxy.endpoint, http_proxy=proxy.endpoint)
        assert done.returncode == ExitCode.FETCH
        assert proxy.log
    assert fetcher.fake.log == []


def test_a_token_is_in_no_output(fetcher: Fetcher) -> None:
    def faults(call: HubRequest) -> Fault | None:
        return Fault(status=403) if call.kind == "resolve" else None

    fetcher.fake.faults = faults
    done = run(fetcher, HF_TOKEN="hf_fromenv", HF_DEBUG="1")
    assert done.returncode == ExitCode.FETCH
    assert "hf_fromenv" not in done.stdout + done.stderr


def test_the_cache_is_the_one_huggingface_hub_reads(fetcher: Fetcher) -> None:
    verified(fetcher, run(fetcher))
    code = (
        "from huggingface_hub import hf_hub_download as get;"
        f"print(get('{REPO}', 'm.gguf', local_files_only=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_CACHE": str(fetcher.cache)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert Path(done.stdout.strip()).resolve().name == fetcher.fake.sha256("m.gguf")


def test_the_certificates_of_the_environment_are_used(tmp_path: Path) -> None:
    """SSL_CERT_FILE decides whom the transfer trusts."""
    folder = ssl.get_default_verify_paths()
    assert folder.openssl_cafile_env == "SSL_CERT_FILE"
    code = "from qwenctl.fetch.download_url import _trust; print(len(_trust().get_ca_certs()))"
    key, certificate = tmp_path / "key.pem", tmp_path / "one.pem"
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    subprocess.run(
        [
            openssl,
            *"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=test".split(),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"SSL_CERT_FILE": str(certificate), "SSL_CERT_DIR": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "1"
