"""Install an engine where none is usable: whether, which, and doing it. Blocks.

A person is asked by the command line alone. The daemon installs one where the settings say ``auto``.
"""

from collections.abc import Callable
from typing import Literal

from qwenctl import paths
from qwenctl.engine.builds.engine_host import host_of
from qwenctl.engine.builds.install_release import (
    EngineOffer,
    EngineSource,
    InstallProgress,
    find_offer,
    install_offer,
    source_of,
    with_rate,
)
from qwenctl.engine.builds.installation import take
from qwenctl.engine.find import AUTO
from qwenctl.fetch.request import Progress
from qwenctl.hardware.detect import SystemProbe, detect
from qwenctl.settings.types import Settings

Policy = Literal["install", "ask", "refuse"]
OnProgress = Callable[[Progress], None]


def install_policy(settings: Settings, *, yes: bool, can_ask: bool) -> Policy:
    """Return whether an engine is installed without asking, after asking, or not at all.

    A program that a person named is never replaced by another one.
    """
    if settings.server.binary != AUTO or settings.server.install == "never":
        return "refuse"
    if yes or settings.server.install == "auto":
        return "install"
    return "ask" if can_ask else "refuse"


def offer_for_this_machine(settings: Settings) -> tuple[EngineSource, EngineOffer]:
    """Return the official build that suits this machine, and where it comes from.

    Raises:
        FetchError: the listing of the releases cannot be had.
        DetectionError: the machine cannot be read.
    """
    source = source_of(settings, paths.engines_dir(), paths.cache_dir())
    return source, find_offer(source, host_of(detect(SystemProbe.real())))


def install_one(settings: Settings, on_progress: OnProgress, stopped: Callable[[], bool]) -> None:
    """Install the official build that suits this machine, and use it.

    Raises:
        FetchError: it cannot be had.
        NoServerError: no build suits this machine, or it does not work here.
        QwenctlError: the store is at fault, or nobody waits any more.
    """
    source, offer = offer_for_this_machine(settings)
    on_bytes = with_rate(
        lambda name, done, total, rate: on_progress(Progress(name, done, total, rate, "downloading"))
    )
    engine = install_offer(source, offer, InstallProgress(on_bytes=on_bytes, stopped=stopped))
    take(source.root, engine.name)
