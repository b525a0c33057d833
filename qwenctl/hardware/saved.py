"""Read and write a machine as JSON (schema 1), so that every bug report is a test case.

Reads one file; decides nothing.
"""

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from qwenctl.errors import DetectionError
from qwenctl.hardware.facts import Hardware

MAX_BYTES = 1 << 20
LATER = ("wired_limit_bytes", "architecture", "driver_cuda")
"""Fields of an accelerator that came later: left out where they are unknown."""


def read_machine(path: Path) -> Hardware:
    """Return the machine in ``path``: what ``qwenctl hardware --json`` printed, or its ``data`` alone.

    Unknown fields are ignored: fields may be added within a schema.

    Raises:
        DetectionError: the file cannot be read, is no JSON, or describes no machine of schema 1.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise DetectionError(f"cannot read hardware file {path}: larger than {MAX_BYTES} bytes")
        return from_json(json.loads(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise DetectionError(f"cannot read hardware file {path}: {where}: {first['msg'].lower()}") from error
    except (OSError, ValueError, RecursionError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DetectionError(f"cannot read hardware file {path}: {cause.lower()}") from error


def from_json(value: object) -> Hardware:
    """Return the machine that ``value``, parsed JSON, describes.

    Raises:
        ValueError: it describes none (pydantic's ValidationError is one).
    """
    if isinstance(value, dict) and value.get("command") == "hardware" and "data" in value:
        value = value["data"]
    if not isinstance(value, dict) or "schema" not in value:
        raise ValueError("no schema: this is no output of qwenctl hardware --json")
    hardware = TypeAdapter(Hardware).validate_json(json.dumps(value), strict=True)
    _check(hardware)
    return hardware


def to_json(hardware: Hardware) -> dict[str, object]:
    """Return the machine as the JSON object that ``qwenctl hardware --json`` prints, ``schema`` first."""
    fields = asdict(hardware)
    fields["accelerators"] = [
        {key: value for key, value in one.items() if key not in LATER or value is not None}
        for one in fields["accelerators"]
    ]
    if fields["system"] is None:
        del fields["system"]
    for name in ("excluded", "away", "no_device"):
        if not fields[name]:
            del fields[name]
    fields["warnings"] = list(hardware.warnings)
    return {"schema": fields.pop("schema"), **fields}


def to_text(hardware: Hardware) -> str:
    """Return the text of a hardware file."""
    return json.dumps(to_json(hardware), indent=1, ensure_ascii=False) + "\n"


def _check(hardware: Hardware) -> None:
    cpu = hardware.cpu
    if hardware.ram_bytes <= 0:
        raise ValueError("ram_bytes: must be more than 0")
    if min(cpu.physical_cores, cpu.logical_cores, cpu.performance_cores or 1) <= 0:
        raise ValueError("cpu: core counts must be more than 0")
    for accelerator in hardware.accelerators:
        sizes = (accelerator.memory_bytes, accelerator.usable_bytes, accelerator.wired_limit_bytes)
        if min(size or 0 for size in sizes) < 0:
            raise ValueError(f"accelerators: {accelerator.id}: bytes must not be negative")
    ids = [accelerator.id for accelerator in hardware.accelerators]
    if len(set(ids)) != len(ids):
        raise ValueError("accelerators: ids must differ")
