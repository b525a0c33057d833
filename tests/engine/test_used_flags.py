"""The options by which an engine is judged are those that a command line of ours has."""

from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.engine.address import Address
from qwenctl.engine.flags import Known, Option, parse_help
from qwenctl.engine.used_flags import ALWAYS, SOMETIMES, changed_flags, missing, needed
from qwenctl.launch.argv import Launch, options
from qwenctl.settings.types import Settings
from tests.fakes.configurations import configuration

HELP = Path(__file__).parent / "help"
SOCKET = Address("/s/child.sock", None)


def known(build: str) -> Known:
    return parse_help((HELP / f"{build}.txt").read_text(encoding="utf-8"))


def flags_of(launch: Launch, settings: Settings, kv_type: str = "f16") -> set[str]:
    plan = configuration("any").plan
    return {option.flag for option in options(launch, replace(plan, kv_type=kv_type), settings)}


EVERYTHING = Settings.model_validate(
    {
        "sampling": dict.fromkeys(("temperature", "top_p", "min_p", "presence_penalty"), 0.5)
        | {"top_k": 20, "repeat_penalty": 1.0},
        "reasoning": {"budget": 100},
        "server": {"rpc": ["10.0.0.1:50052"]},
    }
)


def test_every_option_of_a_command_line_is_listed() -> None:
    with_all = Launch("l", "m", Address("127.0.0.1", 1), ("CUDA0",), "/keys", "/slots")
    assert flags_of(with_all, EVERYTHING, "q8_0") == {option.flag for option in ALWAYS + SOMETIMES}


def test_what_every_command_line_has_is_listed_as_such() -> None:
    sampled = Settings.model_validate({"sampling": EVERYTHING.sampling.model_dump()})
    plain = flags_of(Launch("l", "m", SOCKET), sampled)
    always = {option.flag for option in ALWAYS}
    assert always <= plain
    assert plain - always == {"--cache-ram", "--chat-template-kwargs"}


def test_an_engine_of_today_lacks_nothing() -> None:
    assert missing(ALWAYS + SOMETIMES, known("b11434")) == ()


def test_what_an_older_engine_lacks_is_named_as_on_the_command_line() -> None:
    assert missing(needed(Settings()), known("mid-2025"))[:1] == ("--ctx-checkpoints 2",)


@pytest.mark.parametrize("name", ["-ctxcp", "--swa-checkpoints"])
def test_an_older_name_of_a_flag_is_enough(name: str) -> None:
    """Source: builds b6400 to b6684 know it as --swa-checkpoints."""
    page = parse_help(f"{name} N    max number of checkpoints\n")
    assert missing((Option("--ctx-checkpoints", "2"),), page) == ()


@pytest.mark.parametrize(
    ("table", "flag"),
    [
        ({"server": {"rpc": ["a:1"]}}, "--rpc"),
        ({"hardware": {"gpu": "off"}}, "--device"),
        ({"gate": {"enabled": False}}, "--port"),
        ({"reasoning": {"budget": 5}}, "--reasoning-budget"),
    ],
)
def test_settings_need_their_flags(table: dict[str, object], flag: str) -> None:
    assert flag not in {option.flag for option in needed(Settings())}
    assert flag in {option.flag for option in needed(Settings.model_validate(table))}


def test_a_cache_that_is_off_needs_no_flag() -> None:
    assert "--cache-ram" in {option.flag for option in needed(Settings())}
    off = Settings.model_validate({"context": {"cache_ram_mib": 0}})
    assert "--cache-ram" not in {option.flag for option in needed(off)}


def test_what_changed_between_two_engines_is_told_of_the_flags_we_use() -> None:
    old = parse_help(
        "--swa-checkpoints N   x (default: 3)\n--fit {on,off}   x\n--alias S   x\n--unused   x (default: 1)\n"
    )
    new = parse_help("--ctx-checkpoints N   x (default: 32)\n--fit {on,off,auto}   x\n--jinja   x\n")
    assert changed_flags(old, new) == (
        "--alias is not known any more",
        "--fit: the values were on, off, and are on, off, auto now",
        "--swa-checkpoints 2 is now --ctx-checkpoints 2",
        "--ctx-checkpoints: the default was 3, and is 32 now",
        "--jinja is known now",
    )
    assert changed_flags(old, old) == ()
