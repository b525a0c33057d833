"""A llama-server whose device is Metal: the real one on the CPU, with the log of a Metal build.

    python -m tests.darwin.metal_server ROOT PROGRAM [ARGUMENTS]

It lies in the Mac's /opt/homebrew/bin, as after `brew install llama.cpp`. This process becomes PROGRAM; a
second one in its group only changes the words of its log. Source of the words: llama.cpp b11434, ggml-metal.
"""

import json
import os
import re
import sys
from pathlib import Path

MIB = 1 << 20
BUFFER = re.compile(rb"\bCPU(_Mapped)?( +(?:model|KV|RS|compute) buffer size)")


def devices(root: Path) -> str:
    """Return what ``--list-devices`` prints."""
    facts = json.loads((root / "facts.json").read_text())["sysctl"]
    ram, limit = int(facts["hw.memsize"]), int(facts.get("iogpu.wired_limit_mb", "0")) * MIB
    allowed = (limit or (ram * 3 // 4 if ram >= 36 << 30 else ram * 2 // 3)) // MIB
    metal = f"  MTL0: {facts['machdep.cpu.brand_string']} ({allowed} MiB, {allowed - 1} MiB free)"
    blas = "  BLAS: Accelerate (0 MiB, 0 MiB free)"
    return "\n".join(["Available devices:", *([metal] if "hw.optional.arm64" in facts else []), blas])


def main() -> None:
    """Run it."""
    root, program, arguments = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if arguments == ["--list-devices"]:
        print(devices(root))
        return
    while "--device" in arguments:
        place = arguments.index("--device")
        del arguments[place : place + 2]
    if {"--version", "--help"} & {*arguments}:
        os.execv(program, [program, *arguments])  # noqa: S606  as every program here
    if "MTL0" not in devices(root):  # an Intel Mac
        os.execv(program, [program, *arguments])  # noqa: S606  as above
    reads, writes = os.pipe()
    if os.fork() == 0:
        os.close(writes)
        with os.fdopen(reads, "rb") as log:
            for line in log:
                os.write(1, BUFFER.sub(rb"MTL0\1\2", line))
        os._exit(0)
    os.close(reads)
    os.dup2(writes, 1)
    os.dup2(writes, 2)
    os.close(writes)
    os.execv(program, [program, *arguments])  # noqa: S606  as every program here


if __name__ == "__main__":
    main()
