"""Run Python tests without a test library. Runs inside the sandbox, so it imports nothing of qwenctl.

A file's own assertions run when it is imported, then its ``test*`` functions (coroutines, too) and its
``unittest`` cases. The last line is printed only when all tests passed: code that ends the interpreter early
does not get that far.
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
        for name, value in vars(module).items():
            if name.startswith("test") and inspect.isfunction(value):
                suite.addTest(unittest.FunctionTestCase(_called(value), description=f"{path}: {name}"))
        suite.addTest(unittest.defaultTestLoader.loadTestsFromModule(module))
    result = unittest.TextTestRunner(stream=sys.stdout).run(suite)
    if result.wasSuccessful():
        print(PROOF)  # noqa: T201 - what it prints is its result
    return 0 if result.wasSuccessful() else 1


def _called(function: Callable[[], object]) -> Callable[[], None]:
    def call() -> None:
        result = function()
        if inspect.iscoroutine(result):
            asyncio.run(result)

    return call


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
