"""A new engine is a change like any other: proved before anything is stopped, tried, and taken back.

The second engine is a script that is the bundled one, with the fault of the case.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from qwenctl.engine.architectures import COMMON
from qwenctl.engine.builds.installed_engines import (
    ChosenEngine,
    EngineBuild,
    choose,
    chosen,
    read_engine,
    write_build,
)
from qwenctl.engine.tiny_model import tiny_model
from tests.fakes.engine_archive import asset_name, engine_archive
from tests.fakes.gate_clients import asking
from tests.fakes.home import Home, until
from tests.fakes.release_server import ReleaseServer

WITHIN = 60.0
GLIBC = 'echo "$0: libc.so.6: version \\`GLIBC_2.99\' not found (required by $0)" >&2; exit 1'
MISSING = 'echo "$0: error while loading shared libraries: libcublas.so.12: cannot open" >&2; exit 127'


@pytest.fixture
def own_home(home: Home) -> Home:
    """A home in which no llama-server is on PATH."""
    home.environment["PATH"] = "/usr/bin:/bin"
    return home


def engines(home: Home) -> Path:
    return home.path / ".local/share/qwenctl/engines"


def install(home: Home, name: str, real: Path, fault: str = "") -> Path:
    """Put an engine into the store: the real one, with a line of shell before it."""
    folder = engines(home) / name
    folder.mkdir(parents=True)
    program = folder / "llama-server"
    write_script(program, real, fault)
    write_build(folder, EngineBuild(name, "cpu", f"{name}.tar.gz", None, program.name))
    return program


def write_script(program: Path, real: Path, fault: str = "") -> None:
    """Replace a program as a package manager does."""
    part = program.with_name(".part")
    part.write_text(f'#!/bin/sh\n{fault}\nexec {real} "$@"\n')
    part.chmod(0o755)
    part.replace(program)


def use(home: Home, name: str) -> int:
    """Choose an installed engine and tell the daemon, as ``engine use`` does. Return the change's number."""
    before = chosen(engines(home))
    choose(engines(home), ChosenEngine(name, before.current))
    return int(post(home, "/v1/engine")["change"])


def post(home: Home, path: str) -> dict[str, Any]:
    import httpx  # noqa: PLC0415

    transport = httpx.HTTPTransport(uds=str(home.state / "control.sock"))
    with httpx.Client(transport=transport, base_url="http://x", timeout=WITHIN) as client:
        answer: dict[str, Any] = client.post(path).json()
    return answer


def dealt_with(home: Home, number: int) -> dict[str, Any]:
    """Wait until a change is kept or refused, and something serves; return the status."""

    def is_done() -> bool:
        change = home.status()["change"]
        return (
            change["number"] >= number
            and change["state"] in ("settled", "refused")
            and home.status()["ready"]
        )

    until(is_done, WITHIN)
    return home.status()


def events(home: Home, name: str) -> list[dict[str, Any]]:
    lines = (home.state / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


def dies_on(what: str, how: str = "kill -ILL $$") -> str:
    """A fault that shows with a model whose path has ``what`` in it, and with no other."""
    return f'case "$*" in *-m\\ *{what}*) {how};; esac'


def test_another_engine_takes_over_under_load_and_no_request_is_lost(
    own_home: Home, server_binary: Path
) -> None:
    """Eight clients ask without a pause, half of them streaming, while the engine changes twice."""
    install(own_home, "b1", server_binary)
    install(own_home, "b2", server_binary)
    choose(engines(own_home), ChosenEngine("b1"))
    config = own_home.path / ".config/qwenctl/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[context]\nparallel = 9\ntokens = 512\nmin_tokens = 256\n")
    own_home.up()
    assert own_home.status()["engine"]["name"] == "b1"

    async def play() -> None:
        async with asking(own_home.port, 9, 4, 4) as clients:
            await clients.answered(8)
            for name in ("b2", "b1"):
                number = use(own_home, name)
                status = await asyncio.to_thread(dealt_with, own_home, number)
                assert status["engine"]["name"] == name
                await clients.answered(16)
        assert clients.faults == []
        assert clients.counts["stream: answered"] > 8
        assert clients.counts["plain: answered"] > 8

    asyncio.run(play())
    told = events(own_home, "engine_changed")
    assert [event["now"].split("/")[-2] for event in told] == ["b2", "b1"]
    assert told[0]["flags"] == []


def test_an_update_under_load_loses_no_request(own_home: Home) -> None:
    """``qwenctl engine update`` with eight clients: the release is downloaded, proved, and takes over."""
    old = {"b11400": {asset_name("b11400"): engine_archive("b11400")}}
    with ReleaseServer(old) as releases:
        own_home.environment["QWENCTL_SERVER__RELEASES"] = releases.base
        config = own_home.path / ".config/qwenctl/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text("[context]\nparallel = 9\ntokens = 512\nmin_tokens = 256\n")
        assert own_home.run("engine", "install").code == 0
        own_home.up()
        releases.releases = {"b11500": {asset_name("b11500"): engine_archive("b11500")}, **old}

        async def play() -> None:
            async with asking(own_home.port, 9, 4, 4) as clients:
                await clients.answered(8)
                ran = await asyncio.to_thread(own_home.run, "engine", "update")
                assert ran.out == "serving with b11500-cpu\n", ran.err
                await clients.answered(16)
            assert clients.faults == []

        asyncio.run(play())
    assert own_home.status()["engine"]["name"] == "b11500-cpu"


def test_a_choice_that_nobody_tells_the_daemon_of_is_noticed(own_home: Home, server_binary: Path) -> None:
    install(own_home, "b1", server_binary)
    install(own_home, "b2", server_binary)
    choose(engines(own_home), ChosenEngine("b1"))
    own_home.up()
    choose(engines(own_home), ChosenEngine("b2", "b1"))
    until(lambda: (own_home.status()["engine"] or {}).get("name") == "b2", WITHIN)
    until(lambda: own_home.status()["ready"] and own_home.status()["change"]["state"] == "settled", WITHIN)
    assert own_home.status()["change"]["number"] == 2


@pytest.mark.parametrize("fault", ["kill -ILL $$", GLIBC, MISSING])
def test_an_engine_that_does_not_run_here_is_refused_while_the_old_one_serves(
    own_home: Home, server_binary: Path, fault: str
) -> None:
    install(own_home, "b1", server_binary)
    install(own_home, "b2", server_binary, fault)
    choose(engines(own_home), ChosenEngine("b1"))
    own_home.up()
    before = own_home.status()
    dealt_with(own_home, use(own_home, "b2"))
    after = own_home.status()
    assert after["pid"] == before["pid"]
    assert after["engine"]["name"] == "b1"


def test_one_that_dies_on_any_model_is_refused_by_the_smoke_test(own_home: Home, server_binary: Path) -> None:
    """Its --help answers; so it is the tiny model that shows it. The old server is never stopped."""
    install(own_home, "b1", server_binary)
    install(own_home, "b2", server_binary, dies_on("tiny"))
    choose(engines(own_home), ChosenEngine("b1"))
    own_home.up()
    before = own_home.status()
    status = dealt_with(own_home, use(own_home, "b2"))
    assert status["pid"] == before["pid"]
    refused = status["change"]["refused"]
    assert refused["code"] == "no_server"
    assert "b2/llama-server" in refused["message"]
    assert "b1/llama-server" in refused["message"]
    assert "another processor" in refused["message"]
    assert "qwenctl engine install" in refused["hint"]
    assert chosen(engines(own_home)).current == "b1"
    assert read_engine(engines(own_home), "b2").refused  # type: ignore[union-attr]


@pytest.mark.parametrize("how", ["kill -ILL $$", "echo boom >&2; exit 1", "exec sleep 600"])
def test_one_that_dies_on_the_real_model_gives_way_to_the_old_one(
    own_home: Home, server_binary: Path, how: str
) -> None:
    install(own_home, "b1", server_binary)
    install(own_home, "b2", server_binary, dies_on("demo", how))
    choose(engines(own_home), ChosenEngine("b1"))
    config = own_home.path / ".config/qwenctl/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[supervise]\nready_timeout_s = 8\nstop_timeout_s = 2\n")
    own_home.up()
    status = dealt_with(own_home, use(own_home, "b2"))
    assert status["engine"]["name"] == "b1"
    assert "b2 does not work here" in status["rolled_back"]["why"]
    assert "b1 is in force again" in status["rolled_back"]["why"]
    assert any("b2 does not work here" in trouble for trouble in status["troubles"])
    assert chosen(engines(own_home)).current == "b1"
    assert read_engine(engines(own_home), "b2").refused  # type: ignore[union-attr]
    assert events(own_home, "engine_refused")


def test_a_program_replaced_under_its_path_is_a_change(own_home: Home, server_binary: Path) -> None:
    """As brew upgrade does it."""
    program = own_home.path / "bin/llama-server"
    program.parent.mkdir()
    write_script(program, server_binary)
    own_home.environment["PATH"] = f"{program.parent}:/usr/bin:/bin"
    own_home.up()
    first = own_home.status()
    assert first["engine"]["place"] == "PATH"
    write_script(program, server_binary, ": another version")
    until(lambda: own_home.status()["pid"] not in (first["pid"], None) and own_home.status()["ready"], WITHIN)
    until(lambda: own_home.status()["change"]["state"] == "settled", WITHIN)
    assert own_home.status()["engine"]["path"] == str(program)
    assert events(own_home, "engine_changed")


def test_a_first_engine_that_does_not_suit_the_processor_gives_way_to_the_next(
    own_home: Home, server_binary: Path
) -> None:
    """Nothing served before, so the real model shows it. The flags of up go along."""
    program = own_home.path / "bin/llama-server"
    program.parent.mkdir()
    write_script(program, server_binary, dies_on("demo"))
    own_home.environment["PATH"] = f"{program.parent}:/usr/bin:/bin"
    own_home.up("--ctx", "1024")
    status = own_home.status()
    assert status["engine"]["place"] == "bundled"
    assert status["plan"]["context_tokens"] == 1024
    assert "another processor" in status["engine"]["passed_over"][0]["why"]
    assert events(own_home, "engine_refused")[0]["instead"] is None


def test_an_engine_that_does_not_know_the_model_gives_way_to_one_that_does(
    own_home: Home, server_binary: Path
) -> None:
    """Its library holds the names of some architectures, but not of this one."""
    program = own_home.path / "bin/llama-server"
    program.parent.mkdir()
    write_script(program, server_binary)
    program.with_name("libllama.so").write_bytes(b"\0".join(name.encode() for name in (*COMMON, "")))
    own_home.environment["PATH"] = f"{program.parent}:/usr/bin:/bin"
    model = own_home.path / "x.gguf"
    model.write_bytes(tiny_model().replace(b"llama", b"qwen3"))
    engine = own_home.json("plan", str(model))["data"]["engine"]
    assert engine["place"] == "bundled"
    assert [one["why"] for one in engine["passed_over"]] == [
        "it is too old for this model: it does not know the architecture 'qwen3'"
    ]


def test_one_that_a_person_named_gives_way_to_nobody(own_home: Home, server_binary: Path) -> None:
    program = own_home.path / "bin/llama-server"
    program.parent.mkdir()
    write_script(program, server_binary, dies_on("demo"))
    own_home.environment["QWENCTL_SERVER__BINARY"] = str(program)
    ran = own_home.run("up", "--profile", "demo", "--port", str(own_home.port))
    assert ran.code == 7
    assert "it was built for another processor" in ran.err
    assert "qwenctl engine install" in ran.err
    assert own_home.status()["phase"] == "failed"


@pytest.mark.parametrize("what", ["tiny", "demo"])
def test_a_program_replaced_by_a_bad_one_gives_way_to_the_next_engine(
    own_home: Home, server_binary: Path, what: str
) -> None:
    """The old files are gone, so they cannot come back: the bundled engine serves instead."""
    program = own_home.path / "bin/llama-server"
    program.parent.mkdir()
    write_script(program, server_binary)
    own_home.environment["PATH"] = f"{program.parent}:/usr/bin:/bin"
    own_home.up()
    write_script(program, server_binary, dies_on(what))
    until(lambda: (own_home.status()["engine"] or {}).get("place") == "bundled", WITHIN)
    until(lambda: own_home.status()["ready"] and own_home.status()["change"]["state"] == "settled", WITHIN)
    (passed,) = own_home.status()["engine"]["passed_over"]
    assert passed["path"] == str(program)
    assert "did not work here" in passed["why"]
    assert f"not used  {program} of PATH: " in own_home.run("status").out
    (looked,) = own_home.json("plan")["data"]["engine"]["passed_over"]
    assert looked["path"] == str(program)
    binary = next(one for one in own_home.json("doctor")["data"]["checks"] if one["name"] == "binary")
    assert (binary["verdict"], str(program) in binary["finding"]) == ("note", True)
