"""Which models are served or wanted, by the daemon and by the settings. What frees space spares them.

Where the settings cannot be read, or nothing fits, every model that qwenctl ever used counts as wanted.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import psutil

from qwenctl import paths
from qwenctl.control.state_dir import GOOD, read_overrides, read_status, running
from qwenctl.deploy import model_file, pipeline
from qwenctl.deploy.exact_plan import decide
from qwenctl.deploy.types import PlanRequest
from qwenctl.errors import QwenctlError
from qwenctl.fetch.artifact_record import read_records
from qwenctl.fetch.listing import kept_listing
from qwenctl.fetch.request import FetchRequest, request_for
from qwenctl.files import read_json
from qwenctl.model.gguf_name import shards
from qwenctl.model.library import Use
from qwenctl.model.profile import Profile
from qwenctl.model.toml import load_profile
from qwenctl.plan.planner import find_quant
from qwenctl.settings.load import load, read_file
from qwenctl.settings.types import Settings


@dataclass(frozen=True, slots=True)
class InUse:
    """Model files by their real paths, and the requests whose downloads are wanted."""

    files: dict[Path, Use] = field(default_factory=dict)
    requests: tuple[FetchRequest, ...] = ()

    @property
    def paths(self) -> frozenset[Path]:
        """The real paths of all files in use."""
        return frozenset(self.files)


def models_in_use(folder: Path, config: Path | None = None, asked: PlanRequest | None = None) -> InUse:
    """Return what the daemon of this folder serves or wants, and what the settings want.

    ``asked``: a command line that also counts, beside the daemon's next start. The hub is asked nothing.
    """
    files: dict[Path, Use] = {}
    requests: list[FetchRequest] = []
    next_start = PlanRequest(folder, {"fetch": {"offline": True}}, config)
    for path, request in map(_wanted, [next_start] if asked is None else [asked, next_start]):
        requests.extend([request] if request is not None else [])
        for other in _recorded(folder, request) if path is None else parts(path):
            files.setdefault(other.resolve(), "wanted")
    good = read_json(folder / GOOD) or {}
    requests.extend(_of_daemon(folder, good))
    is_running = running(folder) is not None
    if isinstance(good.get("model_file"), str):
        for path in parts(Path(str(good["model_file"]))):
            files[path.resolve()] = "served" if is_running else "wanted"
    for path in _of_server(folder) if is_running else ():
        files[path.resolve()] = "served"
    return InUse(files, tuple(_with_hashes(request) for request in requests))


def parts(path: Path) -> tuple[Path, ...]:
    """Return a model's file, or all parts of a split one."""
    return tuple(path.with_name(name) for name in shards(path.name))


def _named(request: PlanRequest) -> tuple[Path | None, FetchRequest | None]:
    """Return the file or the repository that settings name which cannot be planned."""
    try:
        file = read_file(pipeline.config_path(request), required=False)
        up = read_overrides(request.folder)
        model = load(flags=request.flags, up=up, file=file, profile={}).settings.model
    except QwenctlError:
        return None, None
    if model.path is not None:
        return Path(model.path).expanduser().absolute(), None
    return None, None if model.repo is None else FetchRequest(model.repo, ())


def _wanted(request: PlanRequest) -> tuple[Path | None, FetchRequest | None]:
    """Return the file and the download of the plan of a request; None where there is no plan."""
    try:
        resolved = pipeline.resolve(request)
    except QwenctlError:
        return _named(request)
    if resolved.settings.model.path is not None:
        return Path(resolved.settings.model.path).expanduser().absolute(), None
    try:
        resolved, plan = decide(resolved, pipeline.survey(resolved))
        path = model_file.model_path(resolved, plan)
        return path, _request(resolved.profile, plan.quant, resolved.settings)
    except QwenctlError:
        return None, _request(resolved.profile, resolved.settings.model.quant, resolved.settings)


def _request(profile: Profile, quant: str, settings: Settings) -> FetchRequest | None:
    """Return the request for a quant; for any quant of the repository where none is named."""
    try:
        return request_for(profile, find_quant(profile, quant), settings)
    except QwenctlError:
        whole = request_for(profile, profile.quants[0], settings)
        return None if whole is None else replace(whole, files=())


def _recorded(folder: Path, request: FetchRequest | None) -> Iterable[Path]:
    """Yield every recorded file, of the request's repository where there is one."""
    for entry in read_records(folder).artifacts:
        if not entry.superseded and (request is None or entry.repo == request.repo):
            yield from (file.path for file in entry.files)


def _of_daemon(folder: Path, good: dict[str, object]) -> Iterable[FetchRequest]:
    """Yield the downloads of the kept configuration, and of the plan that the status shows."""
    with contextlib.suppress(QwenctlError, ValueError, KeyError, TypeError):
        profile = Profile.model_validate(good["profile"])
        settings, plan = Settings.model_validate(good["settings"]), good["plan"]
        if isinstance(plan, dict) and (request := _request(profile, str(plan["quant"]), settings)):
            yield request
    shown = (read_status(folder) or {}).get("plan") if running(folder) is not None else None
    if isinstance(shown, dict):
        with contextlib.suppress(QwenctlError):
            name, own = str(shown.get("profile")), paths.config_dir() / "profiles"
            profile = load_profile(name, paths.data_root() / "profiles", own)
            if (request := _request(profile, str(shown.get("quant")), Settings())) is not None:
                yield request


def _of_server(folder: Path) -> tuple[Path, ...]:
    """Return the files of the server that runs now: what stands after ``-m`` on its command line."""
    pid = (read_status(folder) or {}).get("pid")
    if not isinstance(pid, int):
        return ()
    try:
        words = psutil.Process(pid).cmdline()
    except (psutil.Error, ValueError):
        return ()
    return tuple(path for flag, value in pairwise(words) if flag == "-m" for path in parts(Path(value)))


def _with_hashes(request: FetchRequest) -> FetchRequest:
    """Return a request with the hashes that the kept listing of its repository has."""
    listing = kept_listing(paths.cache_dir() / "listings", request.repo, request.revision)
    if listing is None:
        return request
    hashes = {file.name: file.sha256 for file in listing.files}
    files = tuple(replace(file, sha256=file.sha256 or hashes.get(file.name)) for file in request.files)
    return replace(request, files=files)
