"""The daemon's side of the gate: opens it where the settings say, tells it how things are, drains it.

With ``[gate] enabled = false`` there is no gate: the server listens on the public port itself.
"""

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
from qwenctl.gate.api_keys import KeyRing
from qwenctl.gate.gate import Daemon, Gate, GateOptions
from qwenctl.gate.limits import GateLimits
from qwenctl.gate.slots import rules
from qwenctl.gate.slots.saver import SlotLimits, SlotSaver
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
    """The gate of one daemon, made anew when the settings that shape it change.

    ``keys`` are those of the environment; they stay the same for the daemon's life.
    """

    def __init__(
        self, upstream: Daemon, passed: tuple[socket.socket, ...] = (), keys: tuple[str, ...] = ()
    ) -> None:
        self._upstream, self._passed, self._keys = upstream, PassedSockets(passed), keys
        self._asks_key: bool | None = None
        self._gate: Gate | None = None
        self._warm: SlotSaver | None = None
        self._shape: tuple[object, ...] = ()
        self._crashed: int | None = None
        self._slots = (0, "")  # a child's number and what its saved slots must match
        self.told = UpstreamState("planning")

    async def open(self, settings: Settings) -> None:
        """Listen where the settings say. What already listens there, and like that, is left alone.

        Raises:
            LaunchError: the address is taken, or not this machine's, or the server itself is to have one
                that the service manager holds; the old gate goes on.
            SettingsError: it would be open to the network without a key, or the keys cannot be used.
        """
        shape = _shape(settings)
        if shape != self._shape or not settings.gate.enabled:
            check(settings, self._keys)
        asks_key = bool(self._keys) or settings.server.api_key_file is not None
        if shape == self._shape:
            self._asks_key = asks_key  # without a gate the key file is no part of the shape
            return
        gate = self._make(settings) if settings.gate.enabled else None
        elsewhere = self._shape[:2] != shape[:2]
        old = self._gate
        where = address(settings)
        if gate is None and old is not None and self._passed.on_port(where.port):
            raise LaunchError(
                f"cannot give {where.host}:{where.port} to the server: the socket unit holds it",
                hint="qwenctl service install removes the socket unit",
            )
        if not elsewhere or gate is None:
            await self.close()
        if gate is not None:
            await self._start(gate, where)
        self._gate, self._shape = gate, shape
        self._passed.use(where if gate is not None else None)
        self._asks_key = asks_key
        if elsewhere and gate is not None and old is not None:
            await old.stop()

    @property
    def trouble(self) -> str | None:
        """Where the passed sockets and the settings differ."""
        return self._passed.trouble

    async def _start(self, gate: Gate, where: Address) -> None:
        passed = self._passed.for_address(where)
        try:
            await gate.start(where.port or 0, passed.dup() if passed is not None else None)
        except OSError as error:
            refused = cannot_listen(where, error)
            if self._passed.on_port(where.port):  # another address of the same port
                refused.hint = "the socket unit has the port; qwenctl service install brings it in line"
            raise refused from error
        gate.tell(self.told)

    def leave(self) -> None:
        """Take no more connections where they can wait for the next daemon: in a passed socket's queue."""
        if self._gate is not None:
            self._gate.leave()

    def expect(self, plan: Plan) -> None:
        """Say what a slot of this plan takes on disk."""
        if self._warm is not None:
            self._warm.limit(
                bytes_per_token=plan.memory.kv_bytes // (plan.context_tokens * plan.parallel),
                bytes_fixed=plan.memory.recurrent_bytes // plan.parallel,
            )

    async def close(self) -> None:
        """Close the port."""
        gate, self._gate, self._shape = self._gate, None, ()
        if gate is not None:
            await gate.stop()

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
            shape=self._slots_shape(child) if child else "",
        )
        if self._gate is not None:
            self._gate.tell(self.told)

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
        if self._gate is None:
            return None
        stats = self._gate.stats()
        return Traffic(stats.in_flight, stats.bytes_through, stats.reader_blocked)

    def counts(self) -> Counts:
        """Return what the status shows."""
        if self._gate is None:
            return Counts(asks_key=self._asks_key)
        stats = self._gate.stats()
        return Counts(stats.held, stats.in_flight, self._asks_key)

    async def owner(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request of the control socket that is meant for the server."""
        if self._gate is None:
            raise LaunchError("cannot reach the server's own routes: there is no gate", hint="[gate] enabled")
        return await self._gate.owner(request)

    def _make(self, settings: Settings) -> Gate:
        gate, server = settings.gate, settings.server
        keys = KeyRing(_key_file(settings), self._keys)
        options = GateOptions(
            host=server.host,
            rules=guard.rules(server.host, gate.allowed_hosts, gate.allowed_origins),
            limits=GateLimits(gate.hold_timeout_s, gate.max_held, gate.max_held_bytes),
            allow_open=gate.allow_open,
            idle_unload_s=gate.idle_unload_s,
            warm_after_s=gate.warm_after_s,
        )
        limits = SlotLimits(gate.warm_min_tokens, gate.warm_max_bytes)
        self._warm = SlotSaver(paths.private_dir(pipeline.slots_dir()), limits) if gate.warm else None
        return Gate(options, keys, self._upstream, self._warm)

    def _slots_shape(self, child: st.Child) -> str:
        """Return what a slot of this child matches, asked once: its model was opened at its start."""
        if self._slots[0] != child.number:
            self._slots = (child.number, _slots_shape(child.spec))
        return self._slots[1]


def check(settings: Settings, keys: tuple[str, ...]) -> None:
    """Check what can be known of ``open`` before a daemon is started. ``keys``: those of the environment.

    Without the gate the server asks for keys, and its file must hold those of the environment, too.

    Raises:
        SettingsError: it would be open to the network without a key, or the keys cannot be used.
    """
    gate, host = settings.gate, settings.server.host
    ring = KeyRing(_key_file(settings), keys if gate.enabled else ())
    guard.check_exposure(host, has_keys=ring.asked, allow_open=gate.allow_open)
    beyond = (key for key in keys if ring.check(f"Bearer {key}", None) is not guard.KeyCheck.VALID)
    if not gate.enabled and any(beyond):
        raise SettingsError(
            f"cannot use {API_KEY} without the gate: llama-server then asks for the keys, from a file",
            hint="name a file that holds them in [server] api_key_file, or set [gate] enabled = true",
        )


def _key_file(settings: Settings) -> Path | None:
    named = settings.server.api_key_file
    return Path(named).expanduser() if named else None


def drain_timeout_s(settings: Settings) -> float:
    """Return how long a wanted stop may wait for the gate: the answers in flight, then the saving."""
    gate = settings.gate
    if not gate.enabled:
        return 0.0
    return gate.drain_timeout_s + (SAVING_S if gate.warm else 5.0)


def _shape(settings: Settings) -> tuple[object, ...]:
    """Return what a gate is made from, the address first; keys are read again by the gate itself."""
    if not settings.gate.enabled:
        return ("", 0)
    server = settings.server
    return (server.host, server.port, server.api_key_file, settings.gate)


def _slots_shape(spec: LaunchSpec) -> str:
    model = spec.argv[spec.argv.index("-m") + 1] if "-m" in spec.argv else ""
    try:
        stat = Path(model).stat()
    except OSError:
        return ""
    return rules.fingerprint(spec.argv, (model, stat.st_size, stat.st_mtime_ns))
