"""Run Python tests without a test library. Runs in the sandbox, a file among others: imports nothing of ours.

A file's own assertions run when it is imported; then its ``test*`` functions, coroutines awaited, and its
``unittest`` cases. The last line says how many passed: code that ends the interpreter early passes nothing.
"""

import asyncio
import importlib.util
import inspect
import os
import sys
import unittest
from collections.abc import Callable

PROOF = "all tests pass"


def main(paths: list[str]) -> int:
    """Return the exit code."""
    sys.path.insert(0, ".")
    suite = unittest.TestSuite()
    for number, path in enumerate(paths):
        spec = importlib.util.spec_from_file_location(f"tests_{number}", path)
        if spec is None or spec.loader is None:
            print(f"cannot read {path}")  # noqa: T201 - what it prints is its result
            return 1
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name, found in vars(module).items():
            if name.startswith("test") and inspect.isfunction(found):
                suite.addTest(unittest.FunctionTestCase(_called(found), description=f"{path}: {name}"))
        suite.addTest(unittest.defaultTestLoader.loadTestsFromModule(module))
    result = unittest.TextTestRunner(stream=sys.stdout).run(suite)
    if result.wasSuccessful():
        print(PROOF)  # noqa: T201 - likewise
    return 0 if result.wasSuccessful() else 1


def _called(function: Callable[[], object]) -> Callable[[], None]:
    def call() -> None:
        done = function()
        if inspect.iscoroutine(done):
            asyncio.run(done)

    return call


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
