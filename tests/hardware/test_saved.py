"""A machine file is read, refused with its path and cause, and written back to the byte."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import DetectionError
from qwenctl.hardware.facts import Accelerator, Cpu, Hardware
from qwenctl.hardware.saved import MAX_BYTES, from_json, read_machine, to_json, to_text

MACHINES = sorted((Path(__file__).parents[1] / "machines").glob("*.json"))
GOOD = json.loads(MACHINES[0].read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_every_sample_machine_is_written_as_the_same_bytes(path: Path) -> None:
    assert to_text(read_machine(path)).strip() == path.read_text(encoding="utf-8").strip()


COUNTS = st.integers(1, 1 << 60)
BYTES = st.none() | st.integers(0, 1 << 60)
CPUS = st.builds(Cpu, st.none() | st.text(), COUNTS, st.none() | COUNTS, COUNTS)
ACCELERATORS = st.lists(
    st.builds(Accelerator, memory_bytes=BYTES, usable_bytes=BYTES), unique_by=lambda a: a.id
).map(tuple)


@given(st.builds(Hardware, cpu=CPUS, ram_bytes=COUNTS, accelerators=ACCELERATORS))
def test_any_machine_is_the_same_after_writing_and_reading_it(hardware: Hardware) -> None:
    assert from_json(json.loads(to_text(hardware))) == hardware


def test_the_whole_envelope_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    envelope = {"schema": 1, "command": "hardware", "ok": True, "data": GOOD, "error": None}
    path.write_text(json.dumps(envelope), encoding="utf-8")
    assert to_json(read_machine(path)) == GOOD


def test_fields_of_a_later_version_are_ignored() -> None:
    assert to_json(from_json({**GOOD, "later": 1})) == GOOD


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "expecting value"),
        ("[1]", "no schema"),
        ("{}", "no schema"),
        ("[" * 100_000, "recursion"),
        ("\xff", "utf-8"),
        (json.dumps({**GOOD, "schema": 2}), "schema: input should be 1"),
        (json.dumps({**GOOD, "ram_bytes": "8"}), "ram_bytes: input should be a valid integer"),
        (json.dumps({**GOOD, "ram_bytes": 0}), "ram_bytes: must be more than 0"),
        (json.dumps({**GOOD, "os": "windows"}), "os: input should be"),
        (json.dumps({**GOOD, "cpu": {**GOOD["cpu"], "logical_cores": 0}}), "core counts"),
        (json.dumps({**GOOD, "accelerators": GOOD["accelerators"][:1] * 2}), "ids must differ"),
        (json.dumps({**GOOD, "accelerators": [{**GOOD["accelerators"][0], "usable_bytes": -1}]}), "negative"),
        (json.dumps({**GOOD, "machine": "x" * MAX_BYTES}), "larger than"),
    ],
)
def test_a_bad_file_is_refused_with_its_cause(tmp_path: Path, text: str, cause: str) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DetectionError) as caught:
        read_machine(path)
    assert caught.value.message.startswith(f"cannot read hardware file {path}: ")
    assert cause in caught.value.message.lower()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DetectionError, match="no such file"):
        read_machine(tmp_path / "none.json")
