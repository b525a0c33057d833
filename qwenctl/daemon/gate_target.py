"""Where the gate is to listen, and how: it follows from the configurations. No I/O."""

from dataclasses import dataclass

from qwenctl.engine.address import Address, endpoint_address
from qwenctl.gate.options import GateOptions, gate_options
from qwenctl.launch.configuration import Configuration
from qwenctl.settings.types import Settings


@dataclass(frozen=True, slots=True)
class GateTarget:
    """Where the gate is to listen and how, the address in force last. ``asks_key``: clients need a key."""

    at: tuple[tuple[Address, GateOptions], ...] = ()
    in_force: Address | None = None
    asks_key: bool | None = None


def aim(
    kept: Configuration | None, trial: Configuration | None, child_address: Address | None, *, keys: bool
) -> GateTarget | None:
    """Return where the gate is to listen: on trial first, in force last. None: nobody knows yet.

    ``child_address`` is where a living server listens itself; ``keys``: the environment has some.
    """
    force = kept or trial
    if force is None:
        return None
    at: dict[Address, GateOptions] = {}
    for one in (trial, force):
        if one is not None and one.settings.gate.enabled:
            where = endpoint_address(one.settings)
            at.pop(where, None)
            at[where] = gate_options(one.settings, one.plan)
    if trial is not None and not trial.settings.gate.enabled and child_address is not None:
        at.pop(child_address, None)  # the server on trial listens there itself
    where = endpoint_address(force.settings)
    return GateTarget(tuple(at.items()), where, asks_key(force.settings, keys=keys))


def asks_key(settings: Settings, *, keys: bool) -> bool:
    """Return whether clients need a key. ``keys``: the environment has some."""
    return keys or settings.server.api_key_file is not None
