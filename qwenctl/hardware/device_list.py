"""Read what ``llama-server --list-devices`` prints: the devices, or why there is none. Pure: no I/O."""

import re

from qwenctl.hardware.facts import Backend, Device, DeviceList

MIB = 1 << 20
MAX_DEVICES = 256
HEADER = "Available devices:"
LINE = re.compile(r"^ {2}(?P<id>[A-Za-z][\w.-]*(?:\[[^\]]*\])?): (?P<description>\S.*)$")
"""Source: llama.cpp, common/arg.cpp, ``--list-devices``: two spaces, name, description, MiB total, free."""
SIZE = re.compile(r"^(?P<description>.*) \((?P<total>\d+) MiB, (?P<free>\d+) MiB free\)(?P<more>.*)$")
BACKENDS: dict[str, Backend] = {
    "CUDA": "cuda",
    "MTL": "metal",
    "Metal": "metal",
    "ROCm": "rocm",
    "Vulkan": "vulkan",
    "SYCL": "sycl",
    "RPC": "rpc",
}
"""Beginning of a device's id -> backend. Source: llama.cpp, ggml/src/ggml-*/: GGML_*_NAME."""
HELPERS = {"BLAS", "ZenDNN", "zDNN", "AMX", "KleidiAI"}
"""Listed, but no layer is ever put there: they help the processor.

Source: llama.cpp, ggml/src/ggml-*/, GGML_BACKEND_DEVICE_TYPE_ACCEL.
"""
SOFTWARE = re.compile(r"llvmpipe|lavapipe|SwiftShader", re.IGNORECASE)
"""Drivers that compute on the processor."""
STAMP = re.compile(r"^(?:[\d.]+ )?[IWED] ")
"""What the server puts before a line of its log."""
FAILURE = re.compile(
    r"fail|error|cannot|could not|unable|denied|insufficient|unsupported|not (?:supported|available)"
    r"|no [\w-]* ?devices? |no devices found",
    re.IGNORECASE,
)
"""What a line has that tells why there is no device."""
NOT_YET = re.compile(
    r"no (?:CUDA|ROCm|MUSA)-capable device|no devices found|unknown error|initialization error|not ready"
    r"|not (?:yet )?initialized|OS call failed|busy or unavailable|(?:device|GPU) is lost|shutting down",
    re.IGNORECASE,
)
"""Reasons that go away by themselves: a driver that is still loading, or comes back after a suspend.

Source: texts of cudaGetErrorString and hipGetErrorString; llama.cpp issues 27923 and 17542.
"""


def read_devices(stdout: str, stderr: str = "") -> DeviceList:
    """Return the devices that a binary lists; of a list without any, what the binary said of the reason."""
    lines = stdout.splitlines()
    start = lines.index(HEADER) + 1 if HEADER in lines else 0
    found = [device for line in lines[start:] if (device := _device(line, sized=start == 0))]
    said = [*stderr.splitlines(), *(lines[: start - 1] if start else lines)]
    return DeviceList(tuple(found[:MAX_DEVICES]), None if found else _reason(said))


def parse_devices(text: str) -> tuple[Device, ...]:
    """Return the devices alone."""
    return read_devices(text).devices


def prefix(device: Device) -> str:
    """Return the name that the backend gives its devices: the id without its number."""
    return re.split(r"[\d\[]", device.id, maxsplit=1)[0]


def backend_of(device: Device) -> Backend | None:
    """Return the backend of a device that layers can go to; None for BLAS, software and 0 MiB."""
    if device.total_bytes == 0 or SOFTWARE.search(device.description):
        return None
    return BACKENDS.get(prefix(device))


def takes_layers(device: Device) -> bool:
    """Say whether llama.cpp would put layers there, whether or not we know what it is."""
    return prefix(device) not in HELPERS


def goes_away(reason: str) -> bool:
    """Say whether what kept a binary from its devices may be over soon."""
    return NOT_YET.search(reason) is not None


def _device(line: str, *, sized: bool) -> Device | None:
    """Return the device of a line. ``sized``: without the list's header only a line with sizes is one."""
    found = LINE.match(line.rstrip())
    if found is None:
        return None
    size = SIZE.match(found["description"])
    if size is None:
        return None if sized else Device(found["id"], found["description"], 0, 0)
    return Device(found["id"], size["description"], int(size["total"]) * MIB, int(size["free"]) * MIB)


def _reason(lines: list[str]) -> str | None:
    """Return the first line that tells of a failure, without its stamp and the function that wrote it."""
    for line in lines:
        said = STAMP.sub("", line.strip())
        if FAILURE.search(said):
            return re.sub(r"^\w+: (?=\S+ )", "", said)[:200]
    return None
