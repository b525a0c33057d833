"""The folders are the flow: imports point left, pure modules stay pure, each effect has its place.

A rule that fights a need is changed here, with its reason; never worked around.
"""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenctl.cli.commands import COMMANDS

PACKAGE = Path(__file__).parents[1] / "qwenctl"
FLOW = tuple(
    """
    errors files paths control settings hardware model plan fetch engine launch demo supervise gate deploy
    service daemon client cli
    """.split()
)
PURE = set(
    """
    errors settings.types hardware.facts hardware.nvidia hardware.amd hardware.apple hardware.linux
    hardware.devices hardware.device_join hardware.device_list hardware.memory_kind
    model.architecture model.layers model.tensor_sizes model.profile model.ggml model.gguf_header
    model.gguf_name model.quant_bits model.from_listing model.library model.library_removal
    plan.memory plan.memory.server_load plan.memory.parts plan.memory.full_attention
    plan.memory.sliding_window plan.memory.latent_attention plan.memory.shared_kv plan.memory.recurrent
    plan.memory.experts plan.memory.kv_caches plan.memory.compute plan.memory.weights plan.memory.extra_parts
    plan.memory.load_parts plan.known plan.need plan.budget plan.order plan.speed plan.outcome plan.reasons
    plan.planner plan.wire
    engine.address engine.slot engine.fit_table engine.flags engine.used_flags engine.usability
    engine.other_programs engine.wrapper_texts
    engine.tiny_model engine.program engine.builds.releases engine.builds.build_names
    engine.builds.engine_host engine.builds.cuda_support
    engine.builds.build_choice launch.spec launch.configuration
    launch.load_log launch.argv
    gate.upstream gate.replay gate.server_faults gate.api_format gate.sse_split gate.headers gate.guard
    gate.continuation.sent_answer gate.continuation.seam gate.continuation.eligibility
    gate.continuation.chat_stream gate.continuation.text_stream gate.continuation.messages_stream
    gate.continuation.responses_stream gate.continuation.splice gate.continuation.next_part
    gate.options gate.idle_tasks gate.unavailable gate.access_log gate.slots.rules
    gate.passed_connection
    gate.slots.text_chain gate.slots.request_digests gate.slots.restore_record gate.slots.snapshots
    gate.slots.conversations gate.slots.placement gate.slots.shared_text
    supervise.states supervise.policy supervise.queries supervise.restart_counts supervise.lifecycle
    supervise.endings deploy.types deploy.states deploy.machine deploy.change_events
    deploy.engine_blame deploy.device_look daemon.status
    supervise.exits supervise.crash_texts supervise.load_texts supervise.evidence supervise.log_lines
    supervise.build_texts supervise.system_texts
    supervise.post_mortem supervise.lifecycle_events supervise.wedge supervise.device_faults
    control.status_schema service.units service.plists service.launchctl_print
    service.service_state service.local_network service.redact service.diagnosis service.mac_diagnosis
    client.sandbox.sandbox_outcome client.connect.advice client.connect.clients client.connect.config_text
    model.name model.families model.from_gguf
    """.split()
)
PURE_IMPORTS = set(
    """
    __future__ collections dataclasses enum fractions functools itertools json math re shlex string textwrap
    array types errno typing struct difflib fnmatch pydantic plistlib ipaddress hashlib tomlkit pathlib
    urllib.parse signal
    """.split()
)
"""pathlib and signal for values and names only: what touches a file, or sends, is looked for below."""
ONLY_IN: dict[str, set[str]] = {
    "subprocess": {
        "hardware.macos",  # asks macOS' own programs
        "engine.process",
        "engine.fit_params",
        "supervise.child",
        "control.start",
        "service.command",  # every program of a service manager is run there
        "client.sandbox.sandbox",
    },
    "asyncio": {
        # transfer was cut into files of a readable length: all of these wait for the hub
        "fetch.transfer",
        "fetch.download_url",
        "fetch.resolve",
        "fetch.artifact",
        "fetch.remote_header",
        "fetch.clock",
        "hardware.gpu_load",  # a driver that hangs is asked in a thread
        "supervise.child",
        "supervise.exit_watch",
        "supervise.health",
        "supervise.jetsam",  # looks now and then while a server runs
        "supervise.supervisor",
        "engine.api",
        "engine.builds.install_release",  # blocks, so that a command and a thread can call it
        "gate",
        "daemon",
        "client",
        "cli.verify",  # likewise, for a header
        "deploy.listed_model",  # waits for the hub in the thread that plans
        "cli.fetch",  # runs one fetch to its end
    },
    "huggingface_hub": {"fetch.hub"},
    "platformdirs": {"paths"},
    "tomllib": {"settings.load", "model.toml"},
}
ENVIRONMENT = {
    "settings.load",
    "paths",
    "hardware.detect",
    "engine.environment",
    "daemon.sd_notify",
    "daemon.socket_activation",
    "daemon.new_program",
    "daemon.reexec_guard",
    "cli.output",
    "service.install",
    "engine.builds.release_api",
}
"""engine.builds.release_api reads the token for GitHub's API.

daemon.new_program and daemon.reexec_guard hand the daemon's environment to the program that they execute.
service.install carries the folders and proxies of who installs into the service.
"""

EXITS = {"cli", "__main__", "engine.bundled"}
"""engine.bundled is a program of its own, not a part of this one."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


TREES = {name_of(path): ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in MODULES}


NAMES = {name_of(path) for path in MODULES}


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
            yield from (name if name.removeprefix("qwenctl.") in NAMES else module for name in names)


def within(module: str, places: set[str]) -> bool:
    return module in places or module.split(".", maxsplit=1)[0] in places


@pytest.mark.parametrize(("module", "tree"), TREES.items(), ids=TREES)
def test_imports_point_left(module: str, tree: ast.Module) -> None:
    folder = module.split(".", maxsplit=1)[0]
    if folder in ("", "__main__"):
        return
    assert folder in FLOW, f"{module}: the layout has no such folder"
    for imported in imports(tree):
        if imported.startswith("qwenctl."):
            other = imported.split(".")[1]
            assert other in FLOW, f"{module} imports {imported}"
            assert FLOW.index(other) <= FLOW.index(folder), (
                f"{module} imports {imported}, which is further right"
            )


@pytest.mark.parametrize(("module", "tree"), TREES.items(), ids=TREES)
def test_pure_modules_import_only_data_and_each_other(module: str, tree: ast.Module) -> None:
    if module not in PURE:
        return
    for imported in imports(tree):
        if imported.startswith("qwenctl"):
            assert imported.removeprefix("qwenctl.") in PURE, f"{module} is pure and imports {imported}"
        else:
            names = {imported, imported.split(".", maxsplit=1)[0]}
            assert names & PURE_IMPORTS, f"{module} is pure and imports {imported}"


@pytest.mark.parametrize(("module", "tree"), TREES.items(), ids=TREES)
def test_each_effect_has_its_place(module: str, tree: ast.Module) -> None:
    for imported in imports(tree):
        places = ONLY_IN.get(imported.split(".", maxsplit=1)[0])
        assert places is None or within(module, places), f"{module} imports {imported}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr not in ("environ", "getenv") or within(module, ENVIRONMENT), (
                f"{module} reads the environment"
            )
        if (
            isinstance(node, ast.Attribute)
            and node.attr == "exit"
            and isinstance(node.value, ast.Name)
            and node.value.id == "sys"
        ):
            assert within(module, EXITS), f"{module} exits"
        if isinstance(node, ast.Name) and node.id == "SystemExit":
            assert within(module, EXITS), f"{module} exits"


def test_the_product_catches_everything_in_one_place_only() -> None:
    broad = [
        module
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None
            or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
        )
    ]
    assert set(broad) == {"cli.main", "daemon.isolation"}


def test_no_import_cycles() -> None:
    graph = {
        module: {
            imported.removeprefix("qwenctl.") for imported in imports(tree) if imported.startswith("qwenctl.")
        }
        for module, tree in TREES.items()
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


SAME_NAME: dict[str, str] = {}
"""Class names that stand in two modules, each with its reason."""
SAME_FILE: dict[str, str] = {
    "types.py": "the data types of a folder",
    "states.py": "the words of a state machine: of a change (deploy) and of the server (supervise)",
    "progress.py": "fetch reports it, cli draws it",
}
"""File names that stand in two folders, each with its reason."""


def repeated(places: Iterator[tuple[str, str]]) -> dict[str, set[str]]:
    """Return the names that have more than one place, with the places."""
    table: dict[str, set[str]] = {}
    for name, place in places:
        table.setdefault(name, set()).add(place)
    return {name: where for name, where in table.items() if len(where) > 1}


def test_a_class_name_stands_in_one_module() -> None:
    places = (
        (node.name, module)
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    )
    assert set(repeated(places)) <= set(SAME_NAME)


def test_a_file_name_stands_in_one_folder() -> None:
    """A command's module has the command's name; the client's part of a command may have it, too."""
    commands = {f"{command.replace('-', '_')}.py" for command in COMMANDS}
    places = (
        (path.name, str(path.parent))
        for path in MODULES
        if path.name != "__init__.py" and not (path.name in commands and path.parent == PACKAGE / "cli")
    )
    assert set(repeated(places)) <= set(SAME_FILE)


MOST_LINES, FEWEST_LINES, MEDIAN_LINES = 300, 40, 130
SEAMS = {
    "engine.address": "a data type",
    "cli.offer_engine": "the one question that up may ask",
    "engine.environment": "the one place that cleans a child's environment",
    "engine.fit_table": "the pure parser of a table",
    "plan.memory.full_attention": "one kind of layer",
    "plan.memory.sliding_window": "one kind of layer",
    "plan.memory.latent_attention": "one kind of layer",
    "plan.memory.shared_kv": "one kind of layer",
    "plan.memory.experts": "one kind of layer",
    "plan.memory.extra_parts": "what the server holds beside the model",
    "launch.configuration": "a data type",
    "deploy.change_events": "pure: what is told of a change",
    "deploy.free_address": "the one place that asks whether a port is free",
    "deploy.refusals": "errors and refusals, one into the other",
    "daemon.daemon_parts": "a data type",
    "daemon.descriptors": "the one place that knows the limit of file descriptors",
    "fetch.local_copies": "the one place that knows where other programs may have a copy",
    "gate.sse_split": "pure: where a stream may be cut",
    "gate.access_log": "pure: what is said of a request",
    "service.local_network": "pure: the one thing that is said of macOS' local network",
    "service.plists": "pure: the form of a plist",
    "client.sse": "the one reader of server-sent events",
    "client.markdown": "the one place that knows the library",
}
"""Short modules that stay alone, each with its reason. A command of the command line is one by itself."""


def test_modules_are_of_a_readable_length() -> None:
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert [module for module, count in lines.items() if count > MOST_LINES] == []
    commands = {f"cli.{command.replace('-', '_')}" for command in COMMANDS}
    packages = {name_of(path) for path in MODULES if path.name in ("__init__.py", "__main__.py")}
    short = {module for module, count in lines.items() if count < FEWEST_LINES}
    assert short - commands - packages == set(SEAMS) & short
    assert set(SEAMS) <= short, "a module that has grown is no exception any more"
    assert statistics.median(lines.values()) <= MEDIAN_LINES


def test_pure_modules_touch_no_file_and_no_signal() -> None:
    """A path is a value as long as nobody looks at the disk with it, a signal as long as nobody sends it."""
    methods = {"read_text", "read_bytes", "write_text", "write_bytes", "open", "exists", "is_file", "is_dir"}
    methods |= {"signal", "raise_signal", "pthread_kill", "alarm", "setitimer"}
    methods |= {"stat", "mkdir", "unlink", "resolve", "expanduser", "iterdir", "glob", "touch", "absolute"}
    touched = [
        f"{module}: {node.func.attr}"
        for module in PURE & set(TREES)
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods
    ]
    assert touched == []
    assert set(TREES) >= PURE, "every pure module is there"


def test_the_top_level_is_what_the_design_says() -> None:
    root = PACKAGE.parent
    folders = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    expected = {"qwenctl", "profiles", "systemd", "launchd", "tests", "benchmarks", "docs", "packaging"}
    assert folders - {"dist", "build"} == expected
    files = {path.name for path in root.iterdir() if path.is_file() and not path.name.startswith(".")}
    texts = {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"}
    assert files == {"pyproject.toml"} | texts
