"""caffeinate -w PID, or caffeinate PROGRAM: note how it was called, and end with that process.

The line "ended" in the log says that the Mac may sleep again. Source: caffeinate(8).
"""

import contextlib
import os
import select
import subprocess
import sys
from pathlib import Path

words, log = sys.argv[2:], Path(sys.argv[1]) / "caffeinate.log"


def note(text: str) -> None:
    with log.open("a") as file:
        file.write(f"{text}\n")


note(f"{os.getpid()} {' '.join(words)}")
if "-w" in words:
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(int(words[words.index("-w") + 1]))], [], [])
else:
    program = next((place for place, word in enumerate(words) if not word.startswith("-")), len(words))
    if words[program:]:
        subprocess.run(words[program:], check=False)
note("ended")
