"""The daemon's side of the gate: opens it where the settings say, tells it how things are, drains it.

With ``[gate] enabled = false`` there is no gate: the server listens on the public port itself.
"""

import asyncio
import dataclasses
import socket
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from qwenctl import paths
from qwenctl.daemon.socket_activation import PassedSockets
from qwenctl.deploy import pipeline
from qwenctl.deploy.address import address, cannot_listen
from qwenctl.deploy.types import Draft
from qwenctl.engine.address import Address
from qwenctl.errors import LaunchError, QwenctlError, SettingsError
from qwenctl.gate import guard
from qwenctl.gate.api_keys import KeyRing, key_path
from qwenctl.gate.gate import ChildDemand, Gate
from qwenctl.gate.options import GateOptions, gate_options
from qwenctl.gate.slots import rules
from qwenctl.gate.upstream import UpstreamState
from qwenctl.launch.spec import LaunchSpec
from qwenctl.plan.outcome import Plan
from qwenctl.settings.load import API_KEY
from qwenctl.settings.types import Settings
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.wedge import Traffic

OURS_OR_OUTSIDE = ("killed", "wedged", "not_ready")
"""Endings that say nothing against the request that was in flight: killed from outside, or by us."""
SAVING_S = 60.0
"""What saving the slots may take after the drain."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What waits at the gate, what is on its way, and whether it asks for a key (None: not open yet)."""

    held: int = 0
    in_flight: int = 0
    asks_key: bool | None = None


class Door:
    """The one gate of a daemon, and where the settings want it to listen.

    ``keys`` are those of the environment; they stay the same for the daemon's life.
    """

    def __init__(
        self, daemon: ChildDemand, passed: tuple[socket.socket, ...] = (), keys: tuple[str, ...] = ()
    ) -> None:
        self._daemon, self._passed, self._keys = daemon, PassedSockets(passed), keys
        self._asks_key: bool | None = None
        self._gate: Gate | None = None
        self._settings: Settings | None = None  # those in force
        self._plan: Plan | None = None
        self._opening = asyncio.Lock()
        self._crashed: int | None = None
        self._slots = (0, "")  # a child's number and what its saved slots must match
        self._restoring: tuple[int, asyncio.Task[None]] | None = None  # part of the bridge in ``tell``
        self.told = UpstreamState("planning")

    async def open(self, settings: Settings) -> None:
        """Listen where the settings say, in the way they say. A new address opens before the old one closes.

        Raises:
            LaunchError: the address is taken, or not this machine's, or the server itself is to have one
                that the service manager holds; everything stays as it was.
            SettingsError: it would be open to the network without a key, or the keys cannot be used.
        """
        async with self._opening:
            check(settings, self._keys)
            where = address(settings)
            if settings.gate.enabled:
                await self._open(where, gate_options(settings, self._plan))
            elif self._open_gate is not None and self._passed.on_port(where.port):
                raise LaunchError(
                    f"cannot give {where.host}:{where.port} to the server: the socket unit holds it",
                    hint="qwenctl service install removes the socket unit",
                )
            if self._gate is not None:
                for other in self._gate.addresses:
                    if other != where or not settings.gate.enabled:
                        await self._gate.close(other)
            self._passed.use(where if settings.gate.enabled else None)
            self._settings = settings
            self._asks_key = bool(self._keys) or settings.server.api_key_file is not None

    async def _open(self, where: Address, options: GateOptions) -> None:
        if self._gate is None:
            folder = paths.private_dir(pipeline.slots_dir())
            self._gate = Gate(self._daemon, self._keys, folder, options)
            self._gate.tell(self.told)
        passed = self._passed.for_address(where) if where not in self._gate.addresses else None
        try:
            await self._gate.open(where, options, passed.dup() if passed is not None else None)
        except OSError as error:
            refused = cannot_listen(where, error)
            if self._passed.on_port(where.port):  # another address of the same port
                refused.hint = "the socket unit has the port; qwenctl service install brings it in line"
            raise refused from error

    @property
    def _open_gate(self) -> Gate | None:
        """The gate, if it listens anywhere."""
        return self._gate if self._gate is not None and self._gate.addresses else None

    @property
    def trouble(self) -> str | None:
        """Where the passed sockets and the settings differ."""
        return self._passed.trouble

    def leave(self) -> None:
        """Take no more connections where they can wait for the next daemon: in a passed socket's queue."""
        if self._gate is not None:
            self._gate.leave()

    def expect(self, plan: Plan) -> None:
        """Say which plan is served, and so what a slot takes on disk."""
        if plan != self._plan:
            self._plan = plan
            if self._open_gate is not None and self._settings is not None:
                self._open_gate.configure(gate_options(self._settings, plan))

    async def close(self) -> None:
        """Stop the gate."""
        if self._restoring is not None:
            self._restoring[1].cancel()
        if self._gate is not None:
            await self._gate.stop()

    def tell(
        self,
        phase: str,
        state: st.State,
        prepared: Draft | None,
        progress: str | None,
        refused: QwenctlError | None,
    ) -> None:
        """Pass on how things are."""
        child = lc.live(state)
        last = state.last
        why = (last.summary, last.hint) if last and phase == "failed" else (None, None)
        if refused is not None:
            why = (refused.message, refused.hint)
        self.told = UpstreamState(
            phase=phase,
            child=child.number if child else 0,
            address=child.spec.address if child and phase == "ready" else None,
            progress=progress,
            cause=why[0],
            hint=why[1],
            crashed=self._crashed,
            alias=prepared.resolved.profile.name if prepared else "model",
            slots_fingerprint=self._slots_fingerprint(child) if child else "",
        )
        if self._gate is not None:
            self._tell(self._gate, child.number if child else 0)

    def _tell(self, gate: Gate, child: int) -> None:
        """Tell the gate the state.

        BRIDGE, to be removed when the supervisor knows the phase ``restoring`` and awaits ``Gate.restore``
        itself: until then a child that the supervisor calls ready is told as restoring first, and as ready
        once its slots are restored.
        """
        if self.told.phase != "ready" or not gate.addresses:
            gate.tell(self.told)
            return
        if self._restoring is None or self._restoring[0] != child:
            if self._restoring is not None:
                self._restoring[1].cancel()
            gate.tell(dataclasses.replace(self.told, phase="restoring"))
            task = asyncio.get_running_loop().create_task(self._restore(gate))
            self._restoring = (child, task)
        elif self._restoring[1].done():
            gate.tell(self.told)
        else:
            gate.tell(dataclasses.replace(self.told, phase="restoring"))

    async def _restore(self, gate: Gate) -> None:
        await gate.restore()
        gate.tell(self.told)

    def note_ending(self, before: st.State, after: st.State) -> None:
        """Remember which child crashed by a fault of its own."""
        gone = lc.live(before)
        if gone is None or after.last is before.last or after.last is None:
            return
        if after.last.cause not in OURS_OR_OUTSIDE:
            self._crashed = gone.number

    async def drain(self, timeout_s: float) -> None:
        """Let what is in flight finish, and hold what comes."""
        if self._gate is not None:
            await self._gate.drain(timeout_s)

    def traffic(self) -> Traffic | None:
        """Return what moves through the gate; None without one."""
        gate = self._open_gate
        if gate is None:
            return None
        stats = gate.stats()
        return Traffic(stats.in_flight, stats.bytes_through, stats.reader_blocked)

    def counts(self) -> Counts:
        """Return what the status shows."""
        gate = self._open_gate
        if gate is None:
            return Counts(asks_key=self._asks_key)
        stats = gate.stats()
        return Counts(stats.held, stats.in_flight, self._asks_key)

    async def owner(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request of the control socket that is meant for the server."""
        gate = self._open_gate
        if gate is None:
            raise LaunchError("cannot reach the server's own routes: there is no gate", hint="[gate] enabled")
        return await gate.owner(request)

    def _slots_fingerprint(self, child: st.Child) -> str:
        """Return what a slot of this child matches, asked once: its model was opened at its start."""
        if self._slots[0] != child.number:
            self._slots = (child.number, _slots_fingerprint(child.spec))
        return self._slots[1]


def check(settings: Settings, keys: tuple[str, ...]) -> None:
    """Check what can be known of ``open`` before a daemon is started. ``keys``: those of the environment.

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


def drain_timeout_s(settings: Settings) -> float:
    """Return how long a wanted stop may wait for the gate: the answers in flight, then the saving."""
    gate = settings.gate
    if not gate.enabled:
        return 0.0
    return gate.drain_timeout_s + (SAVING_S if gate.warm else 5.0)


def _slots_fingerprint(spec: LaunchSpec) -> str:
    model = spec.argv[spec.argv.index("-m") + 1] if "-m" in spec.argv else ""
    try:
        stat = Path(model).stat()
    except OSError:
        return ""
    return rules.fingerprint(spec.argv, (model, stat.st_size, stat.st_mtime_ns))
