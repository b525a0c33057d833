"""Say where a request's first file is, or will be, without asking anyone. Reads the record and the cache."""

from pathlib import Path

from qwenctl.fetch import cache
from qwenctl.fetch.hub import default_hub
from qwenctl.fetch.record import read_records
from qwenctl.fetch.request import FetchRequest


def expected_path(request: FetchRequest, state_dir: Path) -> Path:
    """Return the path ``-m`` gets: that of the recorded artifact, else the one a fetch would link."""
    recorded = read_records(state_dir).find(request)
    if recorded is not None and recorded.is_usable():
        return recorded.artifact().path
    folder = default_hub(request.cache_dir, offline=True).folder(request.repo)
    commit = cache.read_ref(folder, request.revision) or request.revision
    return cache.snapshot_path(folder, commit, request.names[0])
