"""The real daemon with the demo model, in a home of its own, for benchmarks."""

import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.fakes.home import EXTRA_ARGS, Home

MARK = "qwenctl_bench_root"


@contextlib.contextmanager
def home(**settings: str) -> Iterator[Home]:
    """Return a fresh home whose settings are ``settings`` (QWENCTL_...); end its daemon afterwards."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ``timeout`` sends it; the daemon would live on
    with tempfile.TemporaryDirectory(prefix="qb-", dir="/tmp") as name:
        made = Home(Path(name), MARK, Path(name))
        made.environment |= {EXTRA_ARGS: "[]"} | settings  # as many threads as a person gets
        try:
            yield made
        finally:
            made.close()
