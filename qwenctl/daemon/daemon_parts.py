"""The parts of one daemon that its state is spread over, as one value: what a handover is about."""

from dataclasses import dataclass
from pathlib import Path

from qwenctl.daemon.deployment import Deployment
from qwenctl.daemon.event_log import EventLog
from qwenctl.daemon.gateway import Gateway
from qwenctl.daemon.publisher import Publisher
from qwenctl.daemon.sd_notify import Notifier
from qwenctl.daemon.server_effects import ServerEffects
from qwenctl.daemon.troubles import Troubles
from qwenctl.supervise.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class DaemonParts:
    """The parts, and the state folder of the daemon.

    Each of them is told in a document by what it knows, never as an object: ``daemon/handover.py``. A part
    that can find out everything anew (the loops, the planner's threads, what was learned of slots) is not
    here.
    """

    folder: Path
    supervisor: Supervisor
    deployment: Deployment
    gateway: Gateway
    effects: ServerEffects
    publisher: Publisher
    events: EventLog
    troubles: Troubles
    notifier: Notifier

    @property
    def child_pid(self) -> int | None:
        """The process of the server, while it runs."""
        process = self.supervisor.process
        return None if process is None else process.pid
