"""The model file of a plan: where it is, how to get it, whether the hub has a newer one."""

from collections.abc import Callable
from pathlib import Path

from qwenctl import paths
from qwenctl.demo.model import make_model
from qwenctl.deploy.types import Draft, ResolvedSettings
from qwenctl.errors import FetchError
from qwenctl.fetch.artifact import fetch
from qwenctl.fetch.artifact_record import expected_path, read_records
from qwenctl.fetch.clock import in_thread
from qwenctl.fetch.gguf_check import local_artifact
from qwenctl.fetch.packaged import packaged_artifact, packaged_path
from qwenctl.fetch.preview import newer_commit
from qwenctl.fetch.request import Artifact, Progress, request_for
from qwenctl.launch.configuration import Configuration
from qwenctl.model.profile import Quant
from qwenctl.plan.planner import Plan, find_quant


def model_path(resolved: ResolvedSettings, chosen: Plan) -> Path:
    """Return where the model file is, or will be once it is fetched."""
    if resolved.settings.model.path is not None:
        return Path(resolved.settings.model.path).expanduser().absolute()
    quant = _quant(resolved, chosen)
    if (packaged := _packaged_path(resolved, quant)) is not None:
        return packaged
    wanted = request_for(resolved.profile, quant, resolved.settings)
    if wanted is None:
        return paths.cache_dir() / "demo" / chosen.files[0].name
    return expected_path(wanted, paths.state_dir())


def is_local(resolved: ResolvedSettings) -> bool:
    """Return whether the model needs no hub: made here, or named by path."""
    return resolved.profile.generated or resolved.settings.model.path is not None


def obtain_local(prepared: Draft) -> Path:
    """Return the model file of a plan that needs no hub, made if it is to be made, and checked.

    Raises:
        FetchError: it is missing, no whole GGUF, or of another architecture.
        LaunchError: it cannot be made.
    """
    return make_local(prepared.resolved, model_path(prepared.resolved, prepared.plan))


def make_local(resolved: ResolvedSettings, path: Path) -> Path:
    """Return ``path`` once it is a whole model of the profile's architecture; make it if it can be made.

    Raises:
        FetchError, LaunchError: as ``obtain_local``.
    """
    if resolved.settings.model.path is None and resolved.profile.generated:
        make_model(path, resolved.profile.architecture)
    return local_artifact(path, resolved.profile.architecture.name).path


async def obtain(prepared: Draft, on_progress: Callable[[Progress], None]) -> Path:
    """Return the verified model file, fetched if need be.

    Raises:
        FetchError: it cannot be had; what has arrived is kept.
        LaunchError: it cannot be made.
    """
    resolved = prepared.resolved
    quant = _quant(resolved, prepared.plan)
    wanted = None if is_local(resolved) else request_for(resolved.profile, quant, resolved.settings)
    if wanted is None:
        return await in_thread(lambda _: obtain_local(prepared))
    packaged = await in_thread(lambda _: packaged_file(resolved, quant))
    if packaged is not None:
        return packaged.path
    return (await fetch(wanted, on_progress, state_dir=paths.state_dir())).path


async def newer_than(configuration: Configuration) -> str | None:
    """Return the commit that ``fetch --update`` would move to; None if there is none, or nobody to ask."""
    settings, profile = configuration.settings, configuration.profile
    if profile.generated or settings.model.path is not None:
        return None
    wanted = request_for(profile, find_quant(profile, configuration.plan.quant), settings)
    if wanted is None:
        return None
    used = read_records(paths.state_dir()).find(wanted)
    try:
        return await newer_commit(wanted, used.commit) if used is not None else None
    except FetchError:
        return None  # asked again tomorrow


def packaged_file(resolved: ResolvedSettings, quant: Quant) -> Artifact | None:
    """Return the verified file of an installed package, where the profile's own files are wanted. Blocks.

    Raises:
        FetchError: the file is there and cannot be read.
    """
    return packaged_artifact(quant) if _packaged_path(resolved, quant) is not None else None


def _packaged_path(resolved: ResolvedSettings, quant: Quant) -> Path | None:
    """Return the file of an installed package, where the profile's own files are wanted."""
    model = resolved.settings.model
    own = model.repo is None and model.file is None and model.revision is None
    return packaged_path(quant) if own else None


def _quant(resolved: ResolvedSettings, chosen: Plan) -> Quant:
    return find_quant(resolved.profile, chosen.quant)
