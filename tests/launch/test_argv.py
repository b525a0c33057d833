"""Whole command lines, one option a line."""

from pathlib import Path

import pytest

from qwenctl.engine.address import Address
from qwenctl.engine.flags import parse_help
from qwenctl.errors import LaunchError, SettingsError
from qwenctl.hardware.saved import read_machine
from qwenctl.launch.argv import OWNED, Launch, argv, lines
from qwenctl.model.toml import read_profile
from qwenctl.plan.planner import Plan, plan
from qwenctl.settings.types import Settings

ROOT = Path(__file__).parents[2]
KNOWN = parse_help((ROOT / "tests/engine/help/b11434.txt").read_text(encoding="utf-8"))
PROFILE = read_profile(ROOT / "profiles/qwen3.6-27b.toml")
CODING = PROFILE.sampling["coding"].model_dump(exclude={"source"})
HERE = Address("127.0.0.1", 8080)

RECIPE = """\
llama-server
-m FILE
--alias qwen3.6-27b
--no-mmproj
--fit on
-np 1
-c 65536
--cache-ram 4096
--ctx-checkpoints 2
--jinja
--temp 0.6
--top-p 0.95
--top-k 20
--min-p 0.0
--presence-penalty 0.0
--repeat-penalty 1.0
--reasoning on
--chat-template-kwargs '{"preserve_thinking": true}'
--host 127.0.0.1
--port 8080
-lv 4"""


def planned(machine: str, settings: Settings) -> Plan:
    made = plan(read_machine(ROOT / f"tests/machines/{machine}.json"), PROFILE, settings)
    assert isinstance(made, Plan)
    return made


def command_line(
    machine: str, devices: tuple[str, ...] | None = None, **tables: dict[str, object]
) -> list[str]:
    tables["sampling"] = CODING | tables.get("sampling", {})
    settings = Settings.model_validate(tables)
    keys = settings.server.api_key_file
    launch = Launch("llama-server", "FILE", HERE, devices, keys)
    return lines(argv(launch, planned(machine, settings), settings, KNOWN))


@pytest.mark.parametrize("machine", ["m3-max-36gb", "m4-max-64gb", "rtx4090-24gb", "2xa100-80gb"])
def test_the_recipe_is_the_command_line_of_every_machine_that_holds_it(machine: str) -> None:
    assert command_line(machine) == RECIPE.splitlines()


def test_a_tight_machine_gets_the_concessions_on_its_command_line() -> None:
    made = command_line("m2-16gb")
    assert made[6:13] == [
        "-c 8192",
        "-ctk q8_0",
        "-ctv q8_0",
        "--flash-attn on",
        "--cache-ram 0",
        "--ctx-checkpoints 1",
        "--jinja",
    ]
    assert [line for line in made if line not in RECIPE.splitlines()] == made[6:12]


def test_every_setting_is_on_the_command_line() -> None:
    changed = command_line(
        "m4-max-64gb",
        context={"tokens": 8192, "parallel": 2, "kv_type": "q8_0", "cache_ram_mib": 0, "checkpoints": 4},
        reasoning={"mode": "off", "preserve": False, "budget": 100},
        server={"api_key_file": "/keys", "extra_args": ["--mlock", "--threads", "4"]},
        sampling={"temperature": 0.1},
    )
    assert changed == [
        "llama-server",
        "-m FILE",
        "--alias qwen3.6-27b",
        "--no-mmproj",
        "--fit on",
        "-np 2",
        "-c 16384",
        "-ctk q8_0",
        "-ctv q8_0",
        "--flash-attn on",
        "--cache-ram 0",
        "--ctx-checkpoints 4",
        "--jinja",
        "--temp 0.1",
        "--top-p 0.95",
        "--top-k 20",
        "--min-p 0.0",
        "--presence-penalty 0.0",
        "--repeat-penalty 1.0",
        "--reasoning off",
        "--reasoning-budget 100",
        """--chat-template-kwargs '{"preserve_thinking": false}'""",
        "--host 127.0.0.1",
        "--port 8080",
        "--api-key-file /keys",
        "-lv 4",
        "--load-mode mlock",
        "--threads 4",
    ]


def test_the_command_line_excludes_a_gpu_that_may_not_be_used() -> None:
    assert "--device none" in command_line("m4-max-64gb", devices=())
    assert "--device CUDA1" in command_line("2xa100-80gb", devices=("CUDA1",))


def test_a_unix_socket_has_no_port() -> None:
    settings = Settings()
    launch = Launch("s", "FILE", Address("/run/x.sock", None))
    made = argv(launch, planned("m4-max-64gb", settings), settings, KNOWN)
    assert "--port" not in made
    assert made[made.index("--host") + 1] == "/run/x.sock"


@pytest.mark.parametrize("flag", sorted(OWNED))
def test_extra_arguments_may_not_override_what_qwenctl_owns(flag: str) -> None:
    with pytest.raises(SettingsError, match=r"qwenctl sets .* itself"):
        command_line("m4-max-64gb", server={"extra_args": [flag, "x"]})


def test_a_mistyped_extra_argument_is_an_error_whose_hint_names_extra_args() -> None:
    with pytest.raises(LaunchError, match="it does not know --nope") as caught:
        command_line("2xa100-80gb", server={"extra_args": ["--nope"]})
    assert caught.value.hint == "remove --nope from [server] extra_args, or use a llama-server that has it"
