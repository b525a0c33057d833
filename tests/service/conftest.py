"""A home with a service manager."""

from collections.abc import Iterator

import pytest

from tests.fakes import manager as fakes
from tests.fakes.home import Home


@pytest.fixture
def manager(home: Home) -> Iterator[fakes.Manager]:
    """A real systemd user manager that lives in the test's home."""
    lacking = fakes.missing()
    if lacking is not None:
        pytest.skip(f"{lacking} is missing for a systemd of our own")
    made = fakes.Manager(home)
    yield made
    made.close()
    (home.state / "status.json").unlink(missing_ok=True)  # its pids were those of the namespace
