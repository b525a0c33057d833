"""caffeinate -w PID: note how it was called, and end with that process."""

import contextlib
import os
import select
import sys
from pathlib import Path

words = sys.argv[2:]
with (Path(sys.argv[1]) / "caffeinate.log").open("a") as log:
    log.write(f"{os.getpid()} {' '.join(words)}\n")
if "-w" in words:
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(int(words[words.index("-w") + 1]))], [], [])
