"""Code of a model runs in macOS' sandbox, and where that cannot be, it is said why."""

from tests.client.test_solve import RIGHT, TESTS
from tests.darwin.mac import Mac
from tests.fakes.openai_server import serving

BROKEN = """#!/bin/sh
kill -ABRT $$
"""
"""What a profile does that lacks a rule of dyld's: the program ends, and nothing is printed."""


def test_solve_runs_in_the_sandbox_and_says_why_where_there_is_none(bare_mac: Mac) -> None:
    tests = bare_mac.path / "test_double.py"
    tests.write_text(TESTS["test_double.py"])
    with serving([RIGHT]) as server:
        words = ("solve", "x", "--tests", str(tests), "--out", "d", "--url", server.url)
        ran = bare_mac.run(*words)
        assert (ran.code, ran.out) == (0, "passed in round 1: d\n"), ran
        assert ran.err.startswith("round 1: passed"), "and without the warning of --unsafe"

        tool = bare_mac.system / "tools/sandbox-exec"
        tool.write_text(BROKEN)
        ran = bare_mac.run(*words)
        assert ran.code == 1
        why, hint = ran.err.splitlines()
        assert why == "cannot run Python in the sandbox: SIGABRT ended it before it printed anything"
        assert hint.startswith("hint: --unsafe runs the code with time and memory limits only; Console.app")
