"""What the daemon tells its gate."""

from pathlib import Path

from qwenctl.daemon.gateway import Door
from qwenctl.engine.address import Address
from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise import states as st


class Nobody:
    """A daemon that is asked for nothing."""

    def demand(self, held: bool) -> None:  # noqa: FBT001 - as in the protocol
        raise AssertionError(held)

    def unload(self) -> None:
        raise AssertionError


def told(door: Door, number: int, model: Path) -> str:
    """What saved slots must match, once the door was told of this child."""
    spec = LaunchSpec(("llama-server", "-m", str(model)), Address("/s.sock", None))
    door.tell("ready", st.State(spec, st.Ready(st.Child(number, spec), 0.0)), None, None, None)
    return door.told.slots_fingerprint


def test_slots_belong_to_the_model_file_that_their_child_opened(tmp_path: Path) -> None:
    model = tmp_path / "a.gguf"
    model.write_bytes(b"one")
    door = Door(Nobody())
    first = told(door, 1, model)
    model.write_bytes(b"another")
    assert told(door, 1, model) == first
    assert told(door, 2, model) != first
