"""Plan a wish, in threads: read the settings, look at the machine and the engine, check the command line.

Everything that can be known before a server is stopped is checked here. Nothing is started or stopped.
"""

import functools

from qwenctl.daemon.gateway import Gateway
from qwenctl.deploy import model_file, new_engine, oom_record, pipeline
from qwenctl.deploy import states as st
from qwenctl.deploy.device_look import check_card
from qwenctl.deploy.missing_engine import OnProgress
from qwenctl.deploy.refusals import describe_refused_memory, refusal_of
from qwenctl.deploy.types import Draft, PlanRequest, ResolvedSettings
from qwenctl.errors import QwenctlError, SettingsError
from qwenctl.fetch.clock import Background, in_thread
from qwenctl.fetch.request import Progress
from qwenctl.launch.configuration import Configuration
from qwenctl.plan.outcome import MemoryRefusal
from qwenctl.supervise import states as supervised

Refused = frozenset[MemoryRefusal]
READ_KEPT = 16
"""The settings of so many wishes are kept: more than can wait to be planned again."""


class WishPlanner:
    """Plans the wishes of one daemon. It remembers what the settings said when they could be planned last."""

    def __init__(self, request: PlanRequest, gateway: Gateway) -> None:
        self.degraded: str | None = None
        self.on_progress: OnProgress = lambda _progress: None
        self._request, self._folder, self._gateway = request, request.folder, gateway
        self._settings_planned: tuple[object, ...] | None = None
        self._had_file = False
        self._starts_another: dict[int, bool] = {}
        self._read: dict[int, ResolvedSettings] = {}  # what the newest wishes read

    async def plan(self, wish: st.Wish, refused: Refused, server: supervised.State) -> st.Event:
        """Return ``Planned``, ``Unchanged`` or ``PlanFailed``. ``refused``: what memory refused so far."""
        try:
            if wish.instead_of is not None:
                return await self._plan_smaller(wish, wish.instead_of, refused)
            return await self._plan_settings(wish, refused, server)
        except (QwenctlError, OSError) as error:
            return st.PlanFailed(wish.number, refusal_of(error))

    def starts_another(self, number: int) -> bool:
        """Return whether this wish starts another server than the one that ran when it was planned."""
        return self._starts_another.pop(number, False)

    async def _plan_smaller(self, wish: st.Wish, worse: Configuration, refused: Refused) -> st.Event:
        draft = await in_thread(lambda _: pipeline.smaller(worse, self._folder, refused))
        return st.Planned(wish.number, draft)

    async def _plan_settings(self, wish: st.Wish, refused: Refused, server: supervised.State) -> st.Event:
        asked = self._request
        request = PlanRequest(self._folder, asked.flags, asked.config, wish.overrides, refused)
        resolved = self._read.get(wish.number)  # a wish that had to wait is planned from what it read first
        if resolved is None:
            resolved = await in_thread(lambda _: self._resolve(request, wish.origin))
            self._read[wish.number] = resolved
            self._read = dict(list(self._read.items())[-READ_KEPT:])
        content = (resolved.settings, resolved.profile)
        if wish.origin == "file" and content == self._settings_planned:
            return st.Unchanged(wish.number)
        self._gateway.check(resolved.settings)
        if server.want is None:  # nobody serves yet: clients may wait at the gate while it is planned
            await self._gateway.prepare(resolved.settings, None)
        settings = resolved
        in_force = (server.want or server.good) if server.rejected is None else server.good
        draft = await in_thread(
            lambda thread: new_engine.draft(
                settings,
                refused,
                None if in_force is None else in_force.engine,
                serving=server.want is not None and not isinstance(server.phase, supervised.Failed),
                stopped=thread.stop.is_set,
                on_progress=functools.partial(self._told, thread),
            )
        )
        check_card(draft, server.good)
        expected = await in_thread(lambda _: _expected(draft))
        self._starts_another = {
            wish.number: not expected.starts_like(server.want) or server.rejected is not None
        }
        self.degraded = await in_thread(lambda _: self._refused_before(draft, refused))
        self._settings_planned, self._had_file = content, resolved.config.exists()
        return st.Planned(wish.number, draft)

    def _told(self, thread: Background, progress: Progress) -> None:
        """Tell of a download, from the thread that plans."""
        thread.report(lambda _: self.on_progress(progress), progress.bytes)

    def _resolve(self, request: PlanRequest, origin: st.Origin) -> ResolvedSettings:
        config = pipeline.config_path(request)
        if origin in st.FROM_FILE and self._had_file and not config.exists():
            raise SettingsError(
                f"cannot read settings {config}: it is gone",
                hint="qwenctl keeps using the last settings it read; put the file back, or run qwenctl down",
            )
        return pipeline.resolve(request)

    def _refused_before(self, draft: Draft, refused: Refused) -> str | None:
        resolved = draft.resolved
        model = oom_record.model_key(resolved.profile, resolved.settings.model.path)
        key = oom_record.key(draft.hardware, model, draft.server)
        return describe_refused_memory(oom_record.remembered(self._folder, key) | refused)


def _expected(draft: Draft) -> Configuration:
    """Return the configuration that will serve once its file is here; its command line is checked by that."""
    return pipeline.configuration(draft, model_file.model_path(draft.resolved, draft.plan))
