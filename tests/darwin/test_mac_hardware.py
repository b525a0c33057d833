"""Hardware of Macs whose sysctl knows fewer keys than ours, and ends at the first that it does not know."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MARK
from tests.darwin.mac import Mac


@pytest.fixture(params=["14.3.1", "15.6.1"])
def old_mac(root: Path, request: pytest.FixtureRequest) -> Iterator[Mac]:
    """An Intel Mac: it has neither performance levels nor Metal's limit."""
    mac = Mac(Path(tempfile.mkdtemp(dir=root)), MARK, root, hardware="intel-32gb", macos=request.param)
    try:
        yield mac
    finally:
        mac.close()


def test_a_key_that_a_mac_does_not_have_hides_no_other(old_mac: Mac) -> None:
    ran = old_mac.run("--json", "hardware")
    assert ran.code == 0, ran
    found = json.loads(ran.out)["data"]
    assert found["cpu"]["model"] == "Intel(R) Core(TM) i9-9980HK CPU @ 2.40GHz"
    assert (found["cpu"]["physical_cores"], found["cpu"]["logical_cores"]) == (8, 16)
    assert found["ram_bytes"] == 34359738368
    assert found["machine"] == "MacBookPro16,1"
