"""A program that installs an engine, uses it, and is killed at the n-th change that it makes to files.

    python -m tests.engine.killed_install ROOT ARCHIVE NAME N

Python tells an audit hook of each file operation before it is done, so that each of them can be the last.
"""

import hashlib
import os
import signal
import sys
from pathlib import Path

from qwenctl.engine.builds.installation import EngineArchive, install, take
from qwenctl.engine.smoke_test import SmokeResult

CHANGES = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.symlink", "os.chmod", "shutil.rmtree"}


def main() -> None:
    root, path, name, last = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    archive = EngineArchive(name, name, "cpu", path.name, (path,), digest, keep=True)
    done = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal done
        writes = event == "open" and len(arguments) > 2 and isinstance(arguments[2], int)
        if event in CHANGES or (writes and arguments[2] & (os.O_WRONLY | os.O_RDWR)):  # type: ignore[operator]
            if done == last:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1

    sys.addaudithook(hook)
    install(root, archive, lambda _program: SmokeResult(None), lambda _text: None)
    take(root, name)
    print(done)


if __name__ == "__main__":
    main()
