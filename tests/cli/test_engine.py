"""``qwenctl engine`` as a person types it: with releases on loopback, real archives and the real server."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fakes import engine_archive as archives
from tests.fakes.engine_archive import asset_name, engine_archive
from tests.fakes.home import Home, Ran
from tests.fakes.release_server import ReleaseFault, ReleaseServer

MACHINES = Path(__file__).parents[1] / "machines"
pytestmark = pytest.mark.skipif(archives.asset_name("b1").find("macos") > 0, reason="the names are Linux's")


@pytest.fixture
def releases() -> Iterator[ReleaseServer]:
    """Two releases with builds for this machine, whose programs are stand-ins."""
    contents = {tag: {asset_name(tag): engine_archive(tag, archives.QUICK)} for tag in ("b11510", "b11500")}
    with ReleaseServer(contents) as server:
        yield server


@pytest.fixture
def engine_home(home: Home, releases: ReleaseServer, server_binary: Path) -> Home:
    """A home whose releases are on loopback; ``server_binary`` must be there."""
    assert server_binary.exists()
    home.environment |= {"QWENCTL_SERVER__RELEASES": releases.base, "QWENCTL_SERVER__PORT": str(home.port)}
    return home


def real(releases: ReleaseServer) -> None:
    """Let the releases have real servers."""
    releases.releases = {tag: {asset_name(tag): engine_archive(tag)} for tag in releases.releases}


def store(home: Home) -> Path:
    return home.path / ".local/share/qwenctl/engines"


def engines(home: Home) -> dict[str, str]:
    """The installed engines, each with what is said of it."""
    listed = home.json("engine", "list")["data"]["engines"]
    words = ("in_use", "previous", "serving")
    return {each["name"]: " ".join(word for word in words if each[word]) for each in listed}


def one_line_and_a_hint(ran: Ran, code: int) -> str:
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err
    *_before, message, hint = ran.err.strip().splitlines()
    assert message.startswith("cannot "), ran.err
    assert hint.startswith("hint: ")
    return f"{message}\n{hint}"


def answers(home: Home) -> None:
    answer = httpx.post(
        f"http://127.0.0.1:{home.port}/v1/completions", json={"prompt": "Hi", "max_tokens": 2}, timeout=60
    )
    assert answer.status_code == 200, answer.text


def test_an_engine_is_installed_rolled_back_updated_and_removed(
    engine_home: Home, releases: ReleaseServer
) -> None:
    home = engine_home
    ran = home.run("engine", "install", "b11500")
    assert (ran.code, ran.out) == (0, "using b11500-cpu from the next start on\n"), ran.err
    assert "the processor alone" in ran.err
    assert engines(home) == {"b11500-cpu": "in_use"}
    assert "the next start uses b11500-cpu: " in home.run("engine", "list").out
    assert list((home.path / ".cache/qwenctl/engines").iterdir()) == [], "the archive is not kept"

    done = home.json("engine", "update")
    assert (done["ok"], done["data"]["name"], done["data"]["previous"]) == (True, "b11510-cpu", "b11500-cpu")
    assert engines(home) == {"b11500-cpu": "previous", "b11510-cpu": "in_use"}
    ran = home.run("engine", "update")
    assert (ran.code, ran.out) == (0, "b11510-cpu is already the newest\n")

    assert home.run("engine", "rollback").out == "using b11500-cpu from the next start on\n"
    assert engines(home) == {"b11500-cpu": "in_use", "b11510-cpu": "previous"}

    assert "it is in use" in one_line_and_a_hint(home.run("engine", "remove", "b11500-cpu"), 1)
    releases.releases = {
        "b11520": {asset_name("b11520"): engine_archive("b11520", archives.QUICK)},
        **releases.releases,
    }
    updated = home.json("engine", "update")["data"]
    assert (updated["name"], updated["removed"]) == ("b11520-cpu", ["b11510-cpu"])
    assert home.run("engine", "remove", "b11500-cpu").code == 0
    assert engines(home) == {"b11520-cpu": "in_use"}
    assert "no engine was in use before" in one_line_and_a_hint(home.run("engine", "rollback"), 1)


def test_an_engine_that_the_settings_cannot_use_is_refused(
    engine_home: Home, releases: ReleaseServer
) -> None:
    """It would be passed over at the next start, so it must not be called the one in use."""
    lacks = engine_archive("b11510", archives.QUICK, help_text=archives.HELP_OF_ANOTHER)
    releases.releases["b11510"] = {asset_name("b11510"): lacks}
    said = one_line_and_a_hint(engine_home.run("engine", "install"), 5)
    assert "it does not know --slot-save-path" in said
    assert engines(engine_home) == {}
    engine_home.environment["QWENCTL_GATE__ENABLED"] = "false"
    assert engine_home.run("engine", "install").code == 0
    assert "the next start uses b11510-cpu: " in engine_home.run("engine", "list").out


def test_a_running_daemon_changes_over_and_back(engine_home: Home, releases: ReleaseServer) -> None:
    home = engine_home
    real(releases)
    home.up()
    ran = home.run("engine", "install", "b11500")
    assert (ran.code, ran.out) == (0, "serving with b11500-cpu\n"), ran.err
    first = home.status()
    assert first["engine"]["path"].startswith(str(store(home) / "b11500-cpu"))
    assert engines(home) == {"b11500-cpu": "in_use serving"}
    answers(home)
    assert home.run("engine", "update").out == "serving with b11510-cpu\n"
    assert home.run("engine", "rollback").out == "serving with b11500-cpu\n"
    assert home.status()["pid"] != first["pid"]
    assert "it is in use" in one_line_and_a_hint(home.run("engine", "remove", "b11500-cpu"), 1)
    answers(home)


def test_an_engine_that_fails_with_the_real_model_is_taken_back(
    engine_home: Home, releases: ReleaseServer
) -> None:
    home = engine_home
    real(releases)
    dies = engine_archive("b11520", archives.DIES_ON_THE_MODEL)
    releases.releases = {"b11520": {asset_name("b11520"): dies}, **releases.releases}
    home.up()
    assert home.run("engine", "install", "b11500").code == 0
    said = one_line_and_a_hint(home.run("engine", "update"), 1)
    assert "cannot serve with b11520-cpu: exited with code 1\n" in said
    assert "b11500-cpu is in use again" in said
    assert home.status()["phase"] == "ready"
    assert engines(home)["b11500-cpu"].startswith("in_use")
    said = one_line_and_a_hint(home.run("engine", "update"), 1)
    assert "cannot update to b11520-cpu: it did not work here: exited with code 1" in said
    assert "qwenctl engine use b11520-cpu tries it again" in said
    answers(home)
    assert home.status()["engine"]["path"].startswith(str(store(home) / "b11500-cpu"))


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (archives.MISSING_LIBRARY, "libggml-base.so"),
        (archives.WRONG_GLIBC, "GLIBC_2.38"),
        (archives.SIGILL, "SIGILL"),
        (archives.NO_FLAGS, "llama-server"),
    ],
    ids=["missing library", "wrong glibc", "SIGILL", "no flags of ours"],
)
def test_an_engine_that_does_not_work_here_changes_nothing(
    engine_home: Home, releases: ReleaseServer, program: str, why: str
) -> None:
    home = engine_home
    assert home.run("engine", "install", "b11500").code == 0
    releases.releases["b11510"] = {asset_name("b11510"): engine_archive("b11510", program)}
    said = one_line_and_a_hint(home.run("engine", "install"), 5)
    assert "cannot use b11510-cpu" in said
    assert why in said
    assert engines(home) == {"b11500-cpu": "in_use"}
    assert {path.name for path in store(home).iterdir()} == {".lock", "b11500-cpu", "chosen.json"}
    assert list((home.path / ".cache/qwenctl/engines").iterdir()) == []


def test_a_wrong_digest_changes_nothing(engine_home: Home, releases: ReleaseServer) -> None:
    assert engine_home.run("engine", "install", "b11500").code == 0
    releases.wrong_digest = asset_name("b11510")
    said = one_line_and_a_hint(engine_home.run("engine", "install"), 6)
    assert "cannot verify" in said
    assert engines(engine_home) == {"b11500-cpu": "in_use"}


def test_without_a_digest_nothing_is_downloaded(engine_home: Home, releases: ReleaseServer) -> None:
    releases.digests = False
    said = one_line_and_a_hint(engine_home.run("engine", "install"), 6)
    assert "--sha256" in said
    assert releases.count("bytes") == 0
    digest = hashlib.sha256(releases.releases["b11510"][asset_name("b11510")]).hexdigest()
    assert engine_home.run("engine", "install", "--sha256", digest.upper()).code == 0


def test_offline_says_what_to_bring_and_takes_it_from_a_file(
    engine_home: Home, releases: ReleaseServer
) -> None:
    home = engine_home
    assert home.run("engine", "list").code == 0  # keeps the listing
    said = one_line_and_a_hint(home.run("engine", "install", QWENCTL_FETCH__OFFLINE="true"), 6)
    name = asset_name("b11510")
    assert f"{releases.api}/ggml-org/llama.cpp/releases/download/b11510/{name} (sha256 " in said
    assert f"qwenctl engine install --from {name}" in said
    before = len(releases.log)
    file = home.path / name
    file.write_bytes(releases.releases["b11510"][name])
    ran = home.run("engine", "install", "--from", str(file), QWENCTL_FETCH__OFFLINE="true")
    assert (ran.code, ran.out) == (0, "using b11510-cpu from the next start on\n"), ran.err
    assert "has the sha256 that the listing of the releases says" in ran.err
    assert file.exists()
    assert len(releases.log) == before


def test_a_file_that_is_not_what_the_listing_says_is_refused(engine_home: Home) -> None:
    home = engine_home
    assert home.run("engine", "list").code == 0
    file = home.path / asset_name("b11510")
    file.write_bytes(engine_archive("b11510", filler=5))
    assert "cannot verify" in one_line_and_a_hint(home.run("engine", "install", "--from", str(file)), 6)
    assert engines(home) == {}


def test_a_file_that_nobody_vouches_for_needs_a_word(engine_home: Home) -> None:
    home = engine_home
    file = home.path / "mine.tar.gz"
    file.write_bytes(engine_archive("mine", archives.QUICK))
    said = one_line_and_a_hint(home.run("engine", "install", "--from", str(file)), 1)
    assert "nobody vouches for it" in said
    assert "--sha256" in said
    done = home.json("engine", "install", "--from", str(file), "--yes", "--no-use")
    assert done["data"]["name"] == f"file-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}"
    assert list(engines(home).values()) == [""]


def test_the_list_says_which_build_would_be_chosen_and_why_not_the_others(engine_home: Home) -> None:
    ran = engine_home.run("engine", "list")
    assert ran.code == 0, ran.err
    assert "no engine is installed" in ran.out
    assert "bundled " in ran.out
    assert "llama.cpp b11510 for " in ran.out
    assert "chosen" in ran.out


def test_the_list_can_be_for_another_machine(engine_home: Home, releases: ReleaseServer) -> None:
    for kind in ("cuda-13.4", "cuda-12.8", "vulkan"):
        releases.releases["b11510"][f"llama-b11510-bin-ubuntu-{kind}-x64.tar.gz"] = b"x"
        releases.releases["b11510"][f"cudart-llama-b11510-bin-ubuntu-{kind}-x64.tar.gz"] = b"x"
    releases.releases["b11510"]["llama-b11510-bin-ubuntu-x64.tar.gz"] = b"x"
    file = str(MACHINES / "rtx4090-24gb.json")
    found = engine_home.json("engine", "list", "--hardware", file, "--glibc", "2.39")["data"]
    assert found["chosen"] == "b11510-cuda-13.4"
    assert "engines" not in found
    older = engine_home.json("engine", "list", "--hardware", file, "--glibc", "2.36")["data"]
    assert older["chosen"] == "b11510-vulkan"
    reasons = {each["kind"]: each["reason"] for each in older["builds"]}
    assert reasons["cuda-13.4"] == "made on Ubuntu 24.04 (glibc 2.39); this system has glibc 2.36"


def test_the_list_works_without_a_network(bare_home: Home) -> None:
    ran = bare_home.run("engine", "list", QWENCTL_SERVER__RELEASES="http://127.0.0.1:9/repos/x/y")
    assert ran.code == 0, ran.err
    assert "no engine is installed" in ran.out
    assert "note: cannot read the list of releases: cannot reach 127.0.0.1" in ran.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("install", "b99999"), 6, "cannot find release b99999"),
        (("install", "../x"), 6, "that is no release's name"),
        (("install", "--backend", "vulcan"), 2, "did you mean vulkan?"),
        (("install", "--backend", "rocm"), 5, "this release has no build rocm"),
        (("install", "--sha256", "abc"), 2, "it is not 64 hex digits"),
        (("install", "b11500", "--from", "x.tar.gz"), 2, "the file is what it is"),
        (("install", "--from", "nowhere.tar.gz"), 6, "no such file"),
        (("use", "b11500"), 2, "qwenctl engine install installs one"),
        (("update",), 1, "no installed engine is in use"),
        (("rollback",), 1, "no engine was in use before"),
        (("remove", "x"), 2, "it is not installed"),
        (("list", "--glibc", "new"), 2, "it is no version"),
        (("list", "--hardware", "nowhere.json"), 1, "no such file"),
        (("lst",), 2, "did you mean qwenctl engine list?"),
    ],
)
def test_a_wrong_word_is_one_line_and_a_hint(
    engine_home: Home, words: tuple[str, ...], code: int, said: str
) -> None:
    ran = engine_home.run("engine", *words)
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err
    assert said in ran.err
    assert len(ran.err.strip().splitlines()) <= 2
    assert not store(engine_home).exists() or engines(engine_home) == {}


def test_a_misspelt_engine_is_answered_with_the_nearest(engine_home: Home) -> None:
    assert engine_home.run("engine", "install", "b11500", "--no-use").code == 0
    ran = engine_home.run("engine", "use", "b11501-cpu")
    assert (ran.code, "did you mean b11500-cpu?" in ran.err) == (2, True)


def test_an_unreachable_download_names_the_file_and_the_command(
    engine_home: Home, releases: ReleaseServer
) -> None:
    releases.faults = lambda request: ReleaseFault(status=404) if request.kind == "link" else None
    said = one_line_and_a_hint(engine_home.run("engine", "install"), 6)
    assert asset_name("b11510") in said
    assert engines(engine_home) == {}


def test_a_named_binary_is_used_whatever_is_chosen_and_that_is_said(
    engine_home: Home, server_binary: Path
) -> None:
    ran = engine_home.run("engine", "install", "b11500", QWENCTL_SERVER__BINARY=str(server_binary))
    assert (ran.code, ran.out) == (0, "chosen b11500-cpu\n"), ran.err
    assert f"warning: it is not used, because [server] binary is {server_binary}" in ran.err
    listed = engine_home.run("engine", "list", QWENCTL_SERVER__BINARY=str(server_binary)).out
    assert "no other engine is used" in listed


def test_an_engine_from_a_file_updates_to_the_kind_that_suits_the_machine(engine_home: Home) -> None:
    file = engine_home.path / "mine.tar.gz"
    file.write_bytes(engine_archive("mine", archives.QUICK))
    assert engine_home.run("engine", "install", "--from", str(file), "--yes").code == 0
    assert engine_home.run("engine", "update").out == "using b11510-cpu from the next start on\n"


def test_the_json_of_an_error_is_the_envelope(engine_home: Home) -> None:
    answer = json.loads(engine_home.run("--json", "engine", "use", "x").out)
    assert (answer["ok"], answer["command"], answer["error"]["code"]) == (False, "engine", "usage")
