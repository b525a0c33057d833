"""Fetch the fake hub's file in a process of its own: to be killed.

``python -m tests.fakes.fetch_once FOLDER``; the hub is HF_ENDPOINT's, as for everybody.
"""

import asyncio
import sys
from pathlib import Path

from qwenctl.errors import FetchError
from qwenctl.fetch.artifact import fetch
from tests.fakes.fetcher import REQUEST


def main() -> int:
    state = Path(sys.argv[1]) / "state"
    try:
        artifact = asyncio.run(fetch(REQUEST, lambda _progress: None, state_dir=state))
    except FetchError as error:
        print(error.message, error.hint, file=sys.stderr)
        return error.exit_code
    print(artifact.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
