"""The command line: what it loads, what it prints, and which code it exits with."""

import json
import subprocess
import sys

import pytest

from qwenctl.cli.commands import COMMANDS, OTHER_WORDS, TAKES_A_MODEL
from qwenctl.errors import ExitCode
from tests.fakes.home import Home

HEAVY = ("pydantic", "httpx", "aiohttp", "rich", "huggingface_hub", "asyncio", "psutil")


@pytest.mark.parametrize("module", ["qwenctl.cli.main", "qwenctl.cli.status_text", "qwenctl.cli.group"])
def test_status_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(bare_home: Home, command: str) -> None:
    ran = bare_home.run(command, "--help")
    assert ran.code == 0
    assert "Example: qwenctl" in ran.out
    for option in ("--config", "--profile", "--json", "--quiet", "--verbose"):
        assert option in ran.out


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["up", "--prot", "1"], 2, "cannot run qwenctl up: no such option --prot", "did you mean --port?"),
        (["up", "--nonsense"], 2, "cannot run qwenctl up: no such option --nonsense", "qwenctl up --help"),
        (
            ["up", "--host", "::"],
            2,
            "cannot run qwenctl up: no such option --host",
            "set [server] host in config.toml",
        ),
        (["upp"], 2, "cannot run qwenctl: no such command 'upp'", "did you mean qwenctl up?"),
        (["xyzzy"], 2, "cannot run qwenctl: no such command 'xyzzy'", "qwenctl --help lists the commands"),
        (
            ["service", "inst"],
            2,
            "cannot run qwenctl service: no such command 'inst'",
            "did you mean qwenctl service install?",
        ),
        (
            ["service"],
            2,
            "cannot run qwenctl service: the command is missing",
            "one of install, show, status, uninstall, wired-limit",
        ),
        (
            ["connect"],
            2,
            "cannot run qwenctl connect: CLIENT is missing",
            "one of openai, claude-code, codex, opencode, aider, continue, open-webui",
        ),
        (["completion"], 2, "cannot run qwenctl completion: SHELL is missing", "one of bash, zsh, fish"),
        (["solve", "x"], 2, "cannot run qwenctl solve: --tests is missing", "qwenctl solve --help"),
        (
            ["run", "qwen3.6-27b"],
            2,
            "cannot run qwenctl run: run takes no argument, got qwen3.6-27b",
            "qwenctl up qwen3.6-27b",
        ),
        (
            ["up", "demo", "more"],
            2,
            "cannot run qwenctl up: up takes one model, got more",
            "qwenctl up more",
        ),
        (["up", "--port", "x"], 2, "cannot run qwenctl up: ", "qwenctl up --help"),
        (["up", "--port", "0", "--profile", "demo"], 2, "cannot use --port 0: input should be", None),
        (["up", "--port", "70000"], 2, "cannot use --port 70000: input should be less", None),
        (["up", "--ctx", "1"], 2, "cannot use --ctx 1: input should be greater", None),
        (["plan", "dmeo"], 2, "cannot find model 'dmeo'", "did you mean demo?"),
        (["plan", "demo", "--profile", "qwen3.5-2b"], 2, "cannot use --profile qwen3.5-2b", None),
        (["plan", "a/b:Q8_0", "--quant", "Q4_0"], 2, "cannot use --quant Q4_0: the model's name", None),
        (["plan", "--profile", "dmeo"], 2, "cannot find profile 'dmeo'", "did you mean demo?"),
        (["--config", "nowhere.toml", "plan"], 2, "cannot read settings", None),
        (["plan", "--hardware", "nowhere.json"], 1, "cannot read hardware file", None),
        (["plan", "--quant", "Q9_X"], 2, "cannot use quant", None),
        (["status"], 3, "cannot show status: the daemon is not running", "qwenctl up starts it"),
        (["restart"], 3, "cannot restart: the daemon is not running", "qwenctl up starts it"),
    ],
)
def test_bad_input_is_one_line_a_hint_and_a_code(
    bare_home: Home, arguments: list[str], code: int, message: str, hint: str | None
) -> None:
    ran = bare_home.run(*arguments)
    lines = ran.err.splitlines()
    assert ran.code == code, ran
    assert ran.out == ""
    assert lines[0].startswith(message), ran.err
    assert len(lines) <= 2
    assert hint is None or lines[1] == f"hint: {hint}"
    envelope = json.loads(bare_home.run("--json", *arguments).out)
    assert envelope["ok"] is False
    assert envelope["error"]["code"] == ExitCode(code).name.lower()
    assert envelope["error"]["message"] == lines[0]


def test_without_a_word_the_help_is_printed_and_that_is_no_error(bare_home: Home) -> None:
    ran = bare_home.run()
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == bare_home.run("--help").out
    assert all(f"  {command} " in ran.out for command in COMMANDS)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["start"], "start is called up here: qwenctl up"),
        (["serve", "demo"], "serve is called up here: qwenctl up demo"),
        (["stop"], "stop is called down here: qwenctl down"),
        (["ps"], "ps is called status here: qwenctl status"),
        (["list"], "list is called models here: qwenctl models"),
        (["ls"], "ls is called models here: qwenctl models"),
        (["pull", "demo"], "pull is called fetch here: qwenctl fetch demo"),
        (["rm", "demo"], "rm is called models rm here: qwenctl models rm demo"),
        (["show"], "show is called plan here: qwenctl plan"),
        (["help"], "help is called --help here: qwenctl --help"),
    ],
)
def test_a_word_of_another_tool_is_answered_with_ours(bare_home: Home, words: list[str], hint: str) -> None:
    ran = bare_home.run(*words)
    assert ran.code == 2
    assert ran.err == f"cannot run qwenctl: no such command '{words[0]}'\nhint: {hint}\n"


def test_the_words_of_other_tools_are_none_of_ours_and_lead_to_commands_we_have() -> None:
    assert not set(OTHER_WORDS) & set(COMMANDS)
    assert {ours.split()[0] for ours in OTHER_WORDS.values()} <= {*COMMANDS, "--help", "--version"}
    assert {words.split()[0] for words in TAKES_A_MODEL} <= set(COMMANDS)


def test_events_round_numbers_for_people_and_not_for_json(bare_home: Home) -> None:
    event = {
        "at": "now",
        "event": "memory",
        "error_percent": -0.10288336372488711,
        "took_s": 1234.5,
        "pid": 7,
    }
    bare_home.state.mkdir(parents=True)
    (bare_home.state / "events.jsonl").write_text(json.dumps(event) + "\n")
    assert bare_home.run("events").out == "now memory error_percent=-0.103 took_s=1234 pid=7\n"
    assert bare_home.json("events")["data"]["events"] == [event]


@pytest.mark.parametrize(
    ("variables", "code", "message"),
    [
        (
            {"QWENCTL_SERVER__PROT": "1"},
            2,
            "cannot use environment variable QWENCTL_SERVER__PROT: no such setting",
        ),
        (
            {"QWENCTL_CONTEXT__TOKENS": "x"},
            2,
            "cannot use setting context.tokens (environment QWENCTL_C",
        ),
        ({"QWENCTL_SERVER__EXTRA_ARGS": "x"}, 2, "cannot use an environment variable"),
        ({"QWENCTL_SERVER__BINARY": "/nowhere"}, 5, "cannot use llama-server /nowhere: no such file"),
        ({"QWENCTL_SERVER__BINARY": "/etc/passwd"}, 5, "cannot use llama-server /etc/passwd: not executable"),
        ({"QWENCTL_MODEL__PATH": "/nowhere.gguf"}, 6, "cannot read /nowhere.gguf: no such file"),
        ({"QWENCTL_MODEL__PATH": "/etc/passwd"}, 6, "cannot use /etc/passwd: "),
        ({"XDG_STATE_HOME": "/proc/nowhere"}, 1, "cannot use folder /proc/nowhere/qwenctl"),
        ({"XDG_STATE_HOME": "/tmp/" + "x" * 100}, 1, "cannot use folder /tmp/xxx"),
        ({"QWENCTL_SERVER__EXTRA_ARGS": '["--bogus"]'}, 1, "cannot use "),
    ],
)
def test_a_wrong_surrounding_is_one_line_and_starts_nothing(
    home: Home, variables: dict[str, str], code: int, message: str
) -> None:
    ran = home.run("up", "--profile", "demo", "--port", str(home.port), **variables)
    assert ran.code == code, ran
    assert ran.err.splitlines()[0].startswith(message), ran.err
    assert home.status() == {}


def test_global_options_work_before_and_after_the_command(bare_home: Home) -> None:
    before, after = bare_home.run("--json", "settings"), bare_home.run("settings", "--json")
    assert before.out == after.out
    assert json.loads(before.out)["data"]["server.port"] == {"value": 8080, "origin": "default"}


def test_settings_show_the_origin_of_each_value(bare_home: Home) -> None:
    config = bare_home.path / ".config/qwenctl/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('profile = "demo"\n[server]\nport = 9001\n[sampling]\ntemperature = 0.2\n')
    shown = bare_home.json("settings", QWENCTL_CONTEXT__TOKENS="2048")["data"]
    assert shown["profile"] == {"value": "demo", "origin": "file"}
    assert shown["server.port"] == {"value": 9001, "origin": "file"}
    assert shown["context.tokens"] == {"value": 2048, "origin": "environment"}
    assert shown["sampling.temperature"] == {"value": 0.2, "origin": "file"}
    assert shown["sampling.top_k"] == {"value": 20, "origin": "profile"}
    assert shown["server.host"] == {"value": "127.0.0.1", "origin": "default"}
    assert bare_home.json("settings", "--profile", "qwen3.6-27b")["data"]["profile"]["origin"] == "flag"


def test_settings_check_says_whether_a_file_is_valid(bare_home: Home) -> None:
    good, bad = bare_home.path / "good.toml", bare_home.path / "bad.toml"
    good.write_text("[server]\nport = 1234\n")
    bad.write_text("[server]\nprot = 1234\n")
    assert bare_home.run("settings", "check", str(good)).code == 0
    ran = bare_home.run("settings", "check", str(bad))
    assert ran.code == 2
    assert "server.prot" in ran.err


def test_a_reader_that_goes_away_is_no_traceback(bare_home: Home) -> None:
    command = f"{sys.executable} -m qwenctl settings | head -n 0"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env=bare_home.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""


def test_nothing_is_printed_in_colour_when_nobody_looks(bare_home: Home) -> None:
    assert "\x1b" not in bare_home.run("--help").out + bare_home.run("profiles").out


def test_plan_argv_hardware_and_profiles_change_nothing(bare_home: Home) -> None:
    for command in ("plan", "argv", "hardware", "profiles", "settings"):
        assert bare_home.run("--profile", "demo", command).code == 0
    left = {path.name for path in bare_home.path.rglob("*") if path.is_file()}
    assert all(name.endswith(".json") and len(name) == 21 for name in left), (
        left
    )  # kept answers of the binary
