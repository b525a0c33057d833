"""What llama.cpp's tests start as llama-server: the server itself, or ``qwenctl run`` with it behind.

The tests name models to be downloaded; each becomes the one model given. Standard library only, because it
runs in the environment of those tests. Environment: BARE (the server), MODEL, MODE (bare, gate or inner),
QWENCTL (the program), HOMES (a folder), TESTS (the folder of the tests).
"""

import json
import os
import sys
import tempfile
from pathlib import Path

DROPPED = {
    "--offline": 0,
    "--hf-repo": 1,
    "--hf-file": 1,
    "--model-url": 1,
    "--mmproj-url": 1,
    "--no-mmproj": 0,
}
OWN = ("--version", "--help", "--list-devices", "-h")
KEPT_FOR_THE_CHILD = ("LLAMA_", "AIP_", "GGML_")


def translated(arguments: list[str]) -> list[str]:
    """Return the arguments with the given model, on one thread."""
    kept: list[str] = []
    rest = iter(arguments)
    for word in rest:
        for _ in range(DROPPED.get(word, -1)):
            next(rest, None)
        if word not in DROPPED:
            kept.append(word)
    named = any(word in kept for word in ("-m", "--model", "--models-dir", "--models-preset"))
    return [*kept, *(() if named else ("-m", os.environ["MODEL"])), "-t", "1", "-tb", "1"]


def option(arguments: list[str], name: str, other: str) -> str:
    """Return the value of an option."""
    return arguments[arguments.index(name) + 1] if name in arguments else other


def without(arguments: list[str], *names: str) -> list[str]:
    """Return the arguments without these options, each of which has one value."""
    kept: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word in names:
            next(rest, None)
        else:
            kept.append(word)
    return kept


def inner(arguments: list[str]) -> None:
    """Be the server that qwenctl starts: the test's arguments, qwenctl's address and slot folder."""
    bare = os.environ["BARE"]
    asked = json.loads(Path(os.environ["ASKED"]).read_text())
    if any(word in arguments for word in OWN) or "--slot-save-path" not in arguments:
        os.execv(bare, [bare, *arguments])  # noqa: S606 - it becomes that program
    given = without(asked["arguments"], "--host", "--port", "--api-key", "--cors-origins")
    given = [word for word in given if word not in ("--no-slots", "--slots")]
    given += ["--host", option(arguments, "--host", "")]
    if "--slot-save-path" not in given:
        given += ["--slot-save-path", option(arguments, "--slot-save-path", "")]
    os.chdir(os.environ["TESTS"])
    os.environ.update(asked["environment"])
    os.execv(bare, [bare, *given])  # noqa: S606 - it becomes that program


def gate(arguments: list[str]) -> None:
    """Write a home for this one server, and be its daemon."""
    home = Path(tempfile.mkdtemp(prefix="h", dir=os.environ["HOMES"]))
    script = home / "llama-server"
    asked = home / "asked.json"
    environment = {name: value for name, value in os.environ.items() if name.startswith(KEPT_FOR_THE_CHILD)}
    asked.write_text(json.dumps({"arguments": arguments, "environment": environment}))
    settings = {name: os.environ[name] for name in ("BARE", "MODEL", "TESTS")} | {"ASKED": str(asked)}
    exports = "".join(f"export {name}='{value}' " for name, value in settings.items())
    script.write_text(f"#!/bin/sh\n{exports}MODE=inner\nexec '{sys.executable}' '{__file__}' \"$@\"\n")
    script.chmod(0o755)
    key = option(arguments, "--api-key", "")
    lines = [
        f'profile = "{os.environ["PROFILE"]}"',
        "[server]",
        f'binary = "{script}"',
        f'host = "{option(arguments, "--host", "127.0.0.1")}"',
        f"port = {option(arguments, '--port', '8080')}",
        "[gate]",
        "drain_timeout_s = 2",
        "[supervise]",
        "stop_timeout_s = 2",
    ]
    if key:
        (home / "keys").write_text(key)
        lines.insert(5, f'api_key_file = "{home / "keys"}"')
    config = home / ".config" / "qwenctl" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("\n".join(lines) + "\n")
    clean = {"HOME": str(home), "PATH": os.environ["PATH"]}
    program = os.environ["QWENCTL"]
    os.execve(program, [program, "run", "--config", str(config)], clean)  # noqa: S606 - it becomes that program


def main() -> None:
    """Be the server in the way that MODE says."""
    arguments = sys.argv[1:]
    match os.environ["MODE"]:
        case "inner":
            inner(arguments)
        case "gate":
            gate(translated(arguments))
        case _:
            os.execv(os.environ["BARE"], [os.environ["BARE"], *translated(arguments)])  # noqa: S606 - it becomes that program


if __name__ == "__main__":
    main()
