"""What a help text says, and how the same wish is put to another build."""

from pathlib import Path

import pytest

from qwenctl.engine.flags import Known, Option, fit_to, parse_extra, parse_help, words
from qwenctl.errors import LaunchError

HELP = Path(__file__).parent / "help"


def known(build: str) -> Known:
    return parse_help((HELP / f"{build}.txt").read_text(encoding="utf-8"))


def test_an_entry_has_all_its_names_its_value_its_choices_and_its_default() -> None:
    flags = known("b11434")
    assert flags["-fa"] is flags["--flash-attn"]
    assert flags["-fa"].names == ("-fa", "--flash-attn")
    assert flags["-fa"].choices == ("on", "off", "auto")
    assert flags["--ctx-checkpoints"].default == "32"
    assert flags["--cache-ram"].default == "8192"
    assert flags["--no-mmproj"].takes_value is False
    assert flags["--no-kv-offload"].names == ("-kvo", "--kv-offload", "-nkvo", "--no-kv-offload")
    assert flags["--control-vector-layer-range"].takes_value is True
    assert len(flags) > 400


@pytest.mark.parametrize(
    ("build", "asked", "put"),
    [
        ("b11434", Option("--mlock"), [Option("--load-mode", "mlock")]),
        ("b11434", Option("--no-mmap"), [Option("--load-mode", "none")]),
        ("b11434", Option("-dio"), [Option("--load-mode", "dio")]),
        ("newer", Option("--mlock"), [Option("--load-mode", "mlock")]),
        ("early-2026", Option("--load-mode", "mlock"), [Option("--mlock")]),
        ("early-2026", Option("--load-mode", "dio"), [Option("-dio")]),
        ("early-2026", Option("--load-mode", "mmap"), []),
        ("early-2026", Option("--reasoning", "on"), []),
        ("early-2026", Option("--reasoning", "off"), [Option("--reasoning-budget", "0")]),
        ("mid-2025", Option("--flash-attn", "on"), [Option("--flash-attn")]),
        ("mid-2025", Option("--flash-attn", "off"), []),
        ("mid-2025", Option("--fit", "on"), [Option("--n-gpu-layers", "999")]),
        ("mid-2025", Option("--cache-ram", "0"), []),
        ("b11434", Option("-fa"), [Option("-fa", "on")]),
        ("b11434", Option("--flash-attn", "on"), [Option("--flash-attn", "on")]),
    ],
)
def test_an_option_is_translated_into_the_words_of_the_build(
    build: str, asked: Option, put: list[Option]
) -> None:
    assert list(fit_to((asked,), known(build), "llama-server")) == put


@pytest.mark.parametrize(
    ("build", "asked", "named"),
    [
        ("b11434", Option("--bogus"), "--bogus"),
        ("mid-2025", Option("--cache-ram", "4096"), "--cache-ram 4096"),
        ("early-2026", Option("--moe-cache-mib", "9"), "--moe-cache-mib 9"),
        ("b11434", Option("--fit", "maybe"), "--fit maybe"),
        ("b11434", Option("--ctx-size"), "--ctx-size"),
    ],
)
def test_an_option_the_build_lacks_is_an_error_that_names_the_flag_and_the_binary(
    build: str, asked: Option, named: str
) -> None:
    with pytest.raises(LaunchError) as raised:
        fit_to((asked,), known(build), "/opt/llama-server")
    assert raised.value.message == f"cannot use /opt/llama-server: it does not know {named}"


def test_the_hint_for_an_unknown_flag_says_where_the_flag_comes_from() -> None:
    ours, theirs = (Option("--jinja"), Option("--nope")), (Option("--nope", "3"),)
    with pytest.raises(LaunchError) as raised:
        fit_to(ours, known("b11434"), "llama-server")
    assert raised.value.hint == "update llama.cpp, or set [server] binary to a newer llama-server"
    with pytest.raises(LaunchError) as raised:
        fit_to(ours[:1], known("b11434"), "llama-server", theirs)
    assert raised.value.hint == (
        "remove --nope 3 from [server] extra_args, or use a llama-server that has it"
    )


def test_extra_arguments_become_options() -> None:
    assert parse_extra(("--numa", "isolate", "--metrics", "--temp=0.1", "--rope-scale", "-1.5")) == (
        Option("--numa", "isolate"),
        Option("--metrics"),
        Option("--temp", "0.1"),
        Option("--rope-scale", "-1.5"),
    )
    with pytest.raises(LaunchError):
        parse_extra(("isolate",))


def test_options_become_words() -> None:
    assert words((Option("--jinja"), Option("-c", "1"))) == ("--jinja", "-c", "1")
