"""The daemon's side of the gate: bring it in line with the configuration in force, tell it how the child is.

With ``[gate] enabled = false`` there is no gate: the server listens on the public port itself.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from qwenctl import paths
from qwenctl.control.status_schema import WarmStatus
from qwenctl.daemon.gate_target import GateTarget, aim, asks_key
from qwenctl.daemon.socket_activation import PassedSockets
from qwenctl.daemon.status import GateCounts
from qwenctl.daemon.troubles import Troubles
from qwenctl.deploy import pipeline
from qwenctl.deploy.free_address import cannot_listen, check_address
from qwenctl.engine.address import Address, endpoint_address
from qwenctl.errors import LaunchError, QwenctlError, SettingsError
from qwenctl.gate import guard
from qwenctl.gate.api_keys import KeyRing, key_path
from qwenctl.gate.gate import ChildDemand, Gate
from qwenctl.gate.listening_sockets import RETRY_S, retry_after
from qwenctl.gate.options import GateOptions, gate_options
from qwenctl.gate.passed_connection import PassedAddress
from qwenctl.gate.quiesce import Quiescence
from qwenctl.gate.slots import rules
from qwenctl.gate.upstream import UpstreamState
from qwenctl.launch.configuration import Configuration
from qwenctl.launch.spec import LaunchSpec
from qwenctl.settings.load import API_KEY
from qwenctl.settings.types import Settings
from qwenctl.supervise.wedge import Traffic


class Gateway:
    """The one gate of a daemon. ``keys`` are those of the environment, for the daemon's whole life."""

    def __init__(
        self,
        child: ChildDemand,
        troubles: Troubles,
        passed: tuple[socket.socket, ...] = (),
        keys: tuple[str, ...] = (),
        handed: tuple[PassedAddress, ...] = (),
    ) -> None:
        """Make a gateway without a gate yet. ``handed`` is what an earlier program's gate has passed on."""
        self.in_line = asyncio.Event()  # it has been brought in line once
        self.on_change: Callable[[], None] = lambda: None
        self.on_count: Callable[[], None] = lambda: None  # other requests are held, or in flight
        self._child, self._troubles, self._keys = child, troubles, keys
        self._passed = PassedSockets(passed)
        self._handed = {each.address: each for each in handed}
        self._gate: Gate | None = None
        self._target = GateTarget()
        self._child_address: Address | None = None  # where a server without a gate listens itself
        self._slots = (0, "")  # a child's number and what its saved slots must match
        self._state = UpstreamState("planning")
        self._changing = asyncio.Lock()
        self._wake = asyncio.Event()

    def check(self, settings: Settings) -> None:
        """Check what can be known of the endpoint without opening it.

        Raises:
            SettingsError: it would be open to the network without a key, or the keys cannot be used.
        """
        check(settings, self._keys)

    async def prepare(self, settings: Settings, trial: Configuration | None) -> None:
        """Open the address of a configuration that is about to be tried, beside the address in force.

        Raises:
            LaunchError: the address is taken, or not this machine's, or it is to be the server's own and the
                service manager holds it. Everything stays as it was.
            SettingsError: as ``check``.
        """
        check(settings, self._keys)
        where = endpoint_address(settings)
        if where == self._child_address:
            return  # our own server listens there; it is opened once that has left
        if not settings.gate.enabled:
            if self._passed.on_port(where.port):
                raise LaunchError(
                    f"cannot give {where.host}:{where.port} to the server: the socket unit holds it",
                    hint="qwenctl service install removes the socket unit",
                )
            if self._gate is None or where not in self._gate.addresses:
                check_address(where)
            return
        options = gate_options(settings, trial.plan if trial is not None else None)
        async with self._changing:
            await self._open(where, options)
            await self._use_options_in_force()
        if not self._target.at:
            self._target = GateTarget(((where, options),), where, asks_key(settings, keys=bool(self._keys)))
            self._passed.use(where)
            self.on_change()

    def reconcile(
        self, kept: Configuration | None, trial: Configuration | None, child_address: Address | None
    ) -> None:
        """Bring the gate in line with the configuration in force, and with the one on trial beside it.

        ``child_address`` is where a living server listens itself. What fails is tried again until it is done.
        """
        freed, self._child_address = self._child_address != child_address, child_address
        target = aim(kept, trial, child_address, keys=bool(self._keys))
        if target is not None and (target != self._target or freed):
            self._target = target
            self._wake.set()

    async def release(self, where: Address) -> None:
        """Leave an address to a server that is about to listen there itself. Until then the gate answers."""
        async with self._changing:
            if self._gate is not None and where in self._gate.addresses:
                await self._gate.close(where)

    async def run(self) -> None:
        """Carry out what ``reconcile`` asks for, for ever. After a failure it is tried again.

        A new target is not kept waiting by the failures of the old one.
        """
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._changing:
                trouble = await self._bring_in_line()
            if self._troubles.get("gate") != trouble or self._troubles.get("sockets") != self._passed.trouble:
                self._troubles.set("gate", trouble)
                self._troubles.set("sockets", self._passed.trouble)
                self.on_change()
            self.in_line.set()
            failures = failures + 1 if trouble is not None else 0
            if trouble is not None:
                await asyncio.sleep(RETRY_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), retry_after(failures) - RETRY_S)
                    failures = 0  # the address is another one, or was given up by our own server
                self._wake.set()

    def leave(self) -> None:
        """Take no more connections where they can wait for the next daemon: in a passed socket's queue."""
        if self._gate is not None:
            self._gate.leave()

    @property
    def quiescence(self) -> Quiescence | None:
        """What brings the gate to rest; None without a gate."""
        return None if self._gate is None else self._gate.quiescence

    @property
    def passed_files(self) -> tuple[int, ...]:
        """The open files of the sockets that a service manager passed."""
        return self._passed.files

    def drop_handed(self) -> None:
        """Close what an earlier program passed on and the settings do not mean."""
        handed, self._handed = self._handed, {}
        for each in handed.values():
            for number in (*each.sockets, *(one.descriptor for one in each.connections)):
                with contextlib.suppress(OSError):
                    os.close(number)

    async def close(self) -> None:
        """Stop the gate."""
        if self._gate is not None:
            await self._gate.stop()

    def tell(self, state: UpstreamState) -> None:
        """Tell the gate the state of the child."""
        self._state = state
        if self._gate is not None:
            self._gate.tell(state)

    async def restore(self) -> None:
        """Bring saved slots into the child that is being restored."""
        if self._gate is not None:
            await self._gate.restore()

    async def drain(self, timeout_s: float) -> None:
        """Let what is in flight finish, and hold what comes."""
        if self._gate is not None:
            await self._gate.drain(timeout_s)

    def traffic(self) -> Traffic | None:
        """Return what moves through the gate; None without one."""
        if self._gate is None or not self._gate.addresses:
            return None
        stats = self._gate.stats()
        return Traffic(stats.in_flight, stats.bytes_through, stats.blocked, stats.answered, stats.left)

    def counts(self) -> GateCounts:
        """Return what the status shows."""
        if self._gate is None or not self._gate.addresses:
            return GateCounts(asks_key=self._target.asks_key)
        stats = self._gate.stats()
        warm = WarmStatus(stats.warm.restored, stats.warm.reused, stats.warm.misses)
        return GateCounts(stats.held, stats.in_flight, self._target.asks_key, stats.continued, warm)

    def endpoint(self) -> Address | None:
        """Return where clients are answered now."""
        return self._target.in_force

    async def owner(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request of the control socket that is meant for the server."""
        if self._gate is None or not self._gate.addresses:
            raise LaunchError("cannot reach the server's own routes: there is no gate", hint="[gate] enabled")
        return await self._gate.owner(request)

    def slots_fingerprint(self, number: int, spec: LaunchSpec) -> str:
        """Return what a slot of this child matches, asked once: its model was opened at its start."""
        if self._slots[0] != number:
            self._slots = (number, _slots_fingerprint(spec))
        return self._slots[1]

    async def _bring_in_line(self) -> str | None:
        """Open what is missing, swap options, close what is not wanted. Return what went wrong."""
        target, trouble = self._target, None
        for where, options in target.at:
            if where == self._child_address:
                trouble = f"cannot listen on {where.host}:{where.port} yet: the old server still has it"
                continue
            try:
                await self._open(where, options)
            except QwenctlError as error:
                trouble = error.message
        wanted = [where for where, _ in target.at]
        others = self._gate.addresses if self._gate is not None else ()
        for other in others:
            if self._gate is not None and other not in wanted and target == self._target:
                await self._gate.close(other)
        self._passed.use(target.in_force if target.in_force in wanted else None)
        return trouble

    async def _use_options_in_force(self) -> None:
        """Undo what opening an address changed for the whole gate: options hold once they are proved."""
        for where, options in self._target.at[-1:]:
            if self._gate is not None and where in self._gate.addresses:
                await self._open(where, options)

    async def _open(self, where: Address, options: GateOptions) -> None:
        gate = self._made_gate(options)
        passed = self._passed.for_address(where) if where not in gate.addresses else None
        handed = self._handed.pop(where, PassedAddress(where))
        sockets = tuple(socket.socket(fileno=each) for each in handed.sockets)
        try:
            await gate.open(where, options, passed.dup() if passed is not None else None, sockets)
            await gate.quiescence.take_over(handed)
        except OSError as error:
            refused = cannot_listen(where, error)
            if self._passed.on_port(where.port):  # another address of the same port
                refused.hint = "the socket unit has the port; qwenctl service install brings it in line"
            raise refused from error

    def _made_gate(self, options: GateOptions) -> Gate:
        """Return the gate, made when its first address is opened."""
        if self._gate is None:
            folder = paths.private_dir(pipeline.slots_dir())
            self._gate = Gate(self._child, self._keys, folder, options, on_count=self.on_count)
            self._gate.tell(self._state)
        return self._gate


def check(settings: Settings, keys: tuple[str, ...]) -> None:
    """Check what can be known of an endpoint without opening it. ``keys``: those of the environment.

    Without the gate the server asks for keys, and its file must hold those of the environment, too.

    Raises:
        SettingsError: it would be open to the network without a key, or the keys cannot be used.
    """
    gate, host = settings.gate, settings.server.host
    ring = KeyRing(key_path(settings.server.api_key_file), keys if gate.enabled else ())
    guard.check_exposure(host, has_keys=ring.required, allow_open=gate.allow_open)
    beyond = (key for key in keys if ring.check(f"Bearer {key}", None) is not guard.KeyCheck.VALID)
    if not gate.enabled and any(beyond):
        raise SettingsError(
            f"cannot use {API_KEY} without the gate: llama-server then asks for the keys, from a file",
            hint="name a file that holds them in [server] api_key_file, or set [gate] enabled = true",
        )


def _slots_fingerprint(spec: LaunchSpec) -> str:
    model = spec.argv[spec.argv.index("-m") + 1] if "-m" in spec.argv else ""
    try:
        stat = Path(model).stat()
    except OSError:
        return ""
    return rules.fingerprint((*spec.argv, spec.engine), (model, stat.st_size, stat.st_mtime_ns))
