"""Decide when the devices of the machine are looked at again, and what follows. Pure: no I/O, no clock.

A card may be away for a while: after a suspend, while its driver is loaded again, before the driver's module
is there at boot, while an RPC worker starts. Then nothing is put on the processor in silence:

1. What served on a device waits for it: the wish is refused, for a reason that passes.
2. What serves without a card of this machine has a trouble in its status, and goes over to the card.
3. A server that lost its device is planned for anew, because the device may have another name now.
"""

from dataclasses import dataclass
from typing import Literal

from qwenctl.deploy import states as change
from qwenctl.deploy.types import Draft
from qwenctl.errors import CardAwayError
from qwenctl.hardware.device_list import takes_layers
from qwenctl.hardware.facts import Device
from qwenctl.hardware.memory_kind import vendor_of
from qwenctl.launch.configuration import Configuration
from qwenctl.supervise import states as server
from qwenctl.supervise.exits import GPU_LOST
from qwenctl.supervise.queries import in_force

LOOK_AFTER_S, LOOK_LATER_S, MANY_LOOKS = 10.0, 30.0, 30
"""Every 10 s in the first five minutes, then every 30 s: a look starts the engine's program."""
WAITS = "qwenctl looks again by itself; qwenctl up --cpu serves on the processor on purpose"

Ids = frozenset[str]
Step = Literal["nothing", "plan", "start"]


@dataclass(frozen=True, slots=True)
class DeviceWait:
    """What is looked for: the wish that was refused for it, or a configuration's devices.

    ``lost``: its server has lost them. Otherwise it serves without a card that this machine has.
    """

    configuration: Configuration | None
    lost: bool = False


def waits_for(wishes: change.ChangeState, state: server.State) -> DeviceWait | None:
    """Return what is to be looked for; None where no card is missed."""
    if wishes.refused is not None and is_away(wishes.refused.why):
        return DeviceWait(None)
    configuration = in_force(state)
    if configuration is None:
        return None
    last = state.last
    if isinstance(state.phase, server.Backoff) and last is not None and last.cause == GPU_LOST:
        return DeviceWait(configuration, lost=True)
    return DeviceWait(configuration) if configuration.hardware.away else None


def is_away(why: change.Refusal) -> bool:
    """Say whether a wish was refused because a card does not answer now."""
    return isinstance(why.data, dict) and bool(why.data.get("away"))


def next_look_s(looks: int) -> float:
    """Return how long to wait after so many looks without a change."""
    return LOOK_AFTER_S if looks < MANY_LOOKS else LOOK_LATER_S


def ids_of(devices: tuple[Device, ...]) -> Ids:
    """Return what tells one list of devices from another: not the memory, which moves."""
    return frozenset(device.id for device in devices if takes_layers(device))


def planned_from(configuration: Configuration) -> Ids:
    """Return the list of devices that a configuration was planned from."""
    hardware = configuration.hardware
    return frozenset((*(each.id for each in hardware.accelerators), *hardware.excluded))


def after_look(wait: DeviceWait, before: Ids | None, now: Ids | None) -> Step:
    """Return what follows a look. None: the engine was not asked yet, or could not say.

    A server that lost its devices is started at once when all of them are back, and were not.
    """
    if wait.configuration is None:
        return "plan"
    if wait.lost:
        return _after_loss(wait.configuration, before, now or frozenset())
    changed = now is not None and now != before and now != planned_from(wait.configuration)
    return "plan" if changed else "nothing"


def _after_loss(configuration: Configuration, before: Ids | None, now: Ids) -> Step:
    if before is None or now == before:
        return "nothing"
    return "start" if now >= set(configuration.plan.devices) else "plan"


def check_card(draft: Draft, good: Configuration | None) -> None:
    """Refuse a plan without a device where the last good one, with the same settings and engine, had one.

    A card that was taken out of the machine is not waited for. Who chooses another engine may mean it.

    Raises:
        CardAwayError: the card, or its place on the bus, is still there.
    """
    settings = draft.resolved.settings
    if good is None or not good.plan.devices or draft.plan.devices:
        return
    if settings.hardware != good.settings.hardware or draft.server.path != good.engine.path:
        return
    used = [each for each in good.hardware.accelerators if each.id in good.plan.devices]
    system = draft.hardware.system
    on_bus = {gpu.vendor for gpu in system.pci_gpus} if system is not None else set()
    vendors = {vendor_of(each.backend, each.name) for each in used}
    worker = any(each.backend == "rpc" for each in used) and settings.server.rpc == good.settings.server.rpc
    if not (draft.hardware.away or vendors & on_bus or worker):
        return
    names = ", ".join(dict.fromkeys(each.name for each in used))
    why = "; ".join(draft.hardware.away) or draft.hardware.no_device or "llama-server lists no device now"
    raise CardAwayError(f"cannot use {names}, which served before: {why}", hint=WAITS)
