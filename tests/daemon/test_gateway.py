"""What the daemon's side of the gate says of saved slots."""

from pathlib import Path

from qwenctl.daemon.gateway import Gateway
from qwenctl.daemon.troubles import Troubles
from qwenctl.engine.address import Address
from qwenctl.launch.spec import LaunchSpec


class NoDaemon:
    """A daemon that is asked for nothing."""

    def demand(self, held: bool) -> None:  # noqa: FBT001 - the gate's protocol
        raise AssertionError(held)

    def unload(self) -> None:
        raise AssertionError

    async def examine(self, child: int, fault: str) -> bool:
        raise AssertionError(child, fault)


def fingerprint(gateway: Gateway, number: int, model: Path) -> str:
    """What saved slots of this child must match."""
    spec = LaunchSpec(("llama-server", "-m", str(model)), Address("/s.sock", None))
    return gateway.slots_fingerprint(number, spec)


def test_slots_belong_to_the_model_file_that_their_child_opened(tmp_path: Path) -> None:
    model = tmp_path / "a.gguf"
    model.write_bytes(b"one")
    gateway = Gateway(NoDaemon(), Troubles())
    first = fingerprint(gateway, 1, model)
    model.write_bytes(b"another")
    assert fingerprint(gateway, 1, model) == first
    assert fingerprint(gateway, 2, model) != first
