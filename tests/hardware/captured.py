"""A machine as a text file: what detection would read there. The header says captured, or written after what.

Sections begin with ``== NAME``: ``system``, ``cores``, ``ram``, ``environ``, ``sysctl``, ``nvml`` (JSON) or a
file's path. ``\\xNN`` in a file's text is that byte.
"""

import re
from pathlib import Path

from pydantic import TypeAdapter

from qwenctl.hardware.detect import SystemProbe
from qwenctl.hardware.nvidia import Nvml

SAMPLES = Path(__file__).parent / "samples"
NO_NVML = Nvml(absent="NVML Shared Library Not Found")


def sample(name: str, folder: Path = SAMPLES) -> str:
    """Return a sample without its header lines."""
    text = (folder / name).read_text(encoding="utf-8")
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("# "))


def sections(name: str, folder: Path = SAMPLES) -> dict[str, str]:
    parts = re.split(r"^== (.*)\n", sample(name, folder), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def captured_machine(name: str, folder: Path = SAMPLES) -> SystemProbe:
    found = sections(name, folder)
    files = {path: _bytes(text) for path, text in found.items() if path.startswith("/")}
    system, machine = found["system"].split()
    physical, logical = (int(word) for word in found.get("cores", "1 1").split())
    nvml = TypeAdapter(Nvml).validate_json(found["nvml"]) if "nvml" in found else NO_NVML
    return SystemProbe(
        system=lambda: (system, machine),
        read_text=files.get,
        list_dir=lambda folder: tuple(
            sorted({path[len(folder) + 1 :].split("/")[0] for path in files if path.startswith(folder + "/")})
        ),
        nvml=lambda: nvml,
        sysctl=lambda _keys: found["sysctl"],
        ram_bytes=lambda: int(found["ram"]),
        cores=lambda: (physical, logical),
        environ=dict(line.split("=", 1) for line in found.get("environ", "").splitlines()),
    )


def _bytes(text: str) -> str:
    return re.sub(r"\\x([0-9a-f]{2})", lambda byte: chr(int(byte.group(1), 16)), text)
