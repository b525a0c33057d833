"""Ask a real llama-server what it would hold, on a sparse file, and stop it before it loads anything."""

import re
import subprocess
import threading
from pathlib import Path

from qwenctl.plan.memory import Load

TIMEOUT_S = 30
_ROW = re.compile(r"\|   - ([^|(]*?)(?: \([^)]*\))? +\|[^|]*?(\d+) = +(\d+) \+ +(\d+) \+ +(\d+)")
_LAST = ("projected to use", "failed to fit params")


def server_holds(tools: Path, model: Path, load: Load, rpc: tuple[str, ...] = ()) -> dict[str, int]:
    """Return MiB by device, the host last, as llama-server projects them before it loads.

    Raises:
        RuntimeError: it ended or printed no projection within the time.
    """
    socket = model.with_name(f"{model.name}.sock")
    socket.unlink(missing_ok=True)  # a killed server leaves it behind
    command = [
        *(str(tools / "llama-server"), "--model", str(model), "--host", str(socket)),
        *("--ctx-size", str(load.context_tokens * load.parallel), "--parallel", str(load.parallel)),
        *("--cache-type-k", load.kv_type, "--cache-type-v", load.kv_type, "--log-verbosity", "4"),
        *("--ubatch-size", str(load.ubatch)),
        "--kv-unified" if load.unified else "--no-kv-unified",
        *(("--rpc", ",".join(rpc)) if rpc else ("--device", "none")),
        "--no-repack",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    heard = []
    deadline = threading.Timer(TIMEOUT_S, process.kill)
    deadline.start()
    try:
        for line in process.stdout:
            heard.append(line)
            if any(word in line for word in _LAST):
                break
    finally:
        deadline.cancel()
        process.kill()
        process.wait(timeout=TIMEOUT_S)
        process.stdout.close()
    rows = {name.strip(): int(total) for name, total, *_ in _ROW.findall("".join(heard))}
    if not rows:
        raise RuntimeError(f"llama-server projected nothing for {model}:\n{''.join(heard[-20:])}")
    return rows
