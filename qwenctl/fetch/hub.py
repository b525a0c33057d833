"""Ask the hub what it has. The only user of huggingface_hub: names, metadata, token, endpoint, cache folder.

huggingface_hub reads HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE, at its import. It moves
no file for us: version 2.4.0 can't resume and doesn't verify. Most of it is imported when it is needed: that
takes a third of a daemon's start, and clients wait for a daemon whose program changes.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from huggingface_hub import constants

from qwenctl import __version__
from qwenctl.errors import FetchError
from qwenctl.fetch.answers import TOKEN_HINT, PassingError, refusal, untrusted
from qwenctl.fetch.request import RemoteFile, is_commit

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

SHA256 = re.compile(r"[0-9a-f]{64}")
REPO = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


class NoSuchRevisionError(FetchError):
    """The repository is there, and has no such branch, tag or commit (any more)."""


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub and the cache its files go to. The token never shows in a repr."""

    endpoint: str
    cache_dir: Path
    offline: bool = False
    token: str | None = field(default=None, repr=False)

    def folder(self, repo: str) -> Path:
        """Return the cache folder of a repository."""
        from huggingface_hub.file_download import repo_folder_name

        return self.cache_dir / str(repo_folder_name(repo_id=repo, repo_type="model"))

    def lock_path(self, repo: str, sha256: str) -> Path:
        """Return the lock of one file, the one huggingface_hub takes: it waits for us and we for it."""
        return self.cache_dir / ".locks" / self.folder(repo).name / f"{sha256}.lock"

    def url(self, repo: str, commit: str, name: str) -> str:
        """Return where a file is asked for; the answer sends on to the storage."""
        from huggingface_hub import hf_hub_url

        url: str = hf_hub_url(repo, name, revision=commit, endpoint=self.endpoint)
        return url


def default_hub(cache_dir: Path | None = None, *, offline: bool = False) -> Hub:
    """Return the hub of this environment, as huggingface_hub reads it."""
    from huggingface_hub import get_token

    offline = offline or bool(constants.HF_HUB_OFFLINE)
    silent = offline or constants.HF_HUB_DISABLE_IMPLICIT_TOKEN
    return Hub(
        endpoint=constants.ENDPOINT,
        cache_dir=cache_dir or Path(constants.HF_HUB_CACHE),
        offline=offline,
        token=None if silent else get_token(),  # offline: a token that must be renewed would ask the network
    )


def check_repo(repo: str) -> None:
    """Refuse a name that is no repository's before it becomes a path or an address.

    Raises:
        FetchError: it isn't OWNER/NAME.
    """
    if not REPO.fullmatch(repo) or ".." in repo or "--" in repo:
        raise FetchError(f"cannot use repository {repo!r}: it is not OWNER/NAME", hint="check [model] repo")


def list_files(hub: Hub, repo: str, revision: str, timeout_s: float) -> tuple[str, tuple[RemoteFile, ...]]:
    """Return the commit a revision stands for and the repository's files there, in one request. Blocks.

    Raises:
        PassingError: the hub is busy or can't be reached just now.
        FetchError: it does not exist, access is denied, or the answer makes no sense.
    """
    info = _model_info(hub, repo, revision, timeout_s, files=True)
    try:
        files = tuple(_remote_file(sibling) for sibling in info.siblings or ())
        return _commit(info.sha), tuple(file for file in files if file is not None)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _nonsense(repo) from error


def latest_commit(hub: Hub, repo: str, revision: str, timeout_s: float) -> str:
    """Return the commit a revision stands for now. Blocks.

    Raises:
        PassingError: the hub is busy or can't be reached just now.
        FetchError: it does not exist, access is denied, or the answer makes no sense.
    """
    info = _model_info(hub, repo, revision, timeout_s, files=False)
    try:
        return _commit(info.sha)
    except (AttributeError, TypeError, ValueError) as error:
        raise _nonsense(repo) from error


def _model_info(hub: Hub, repo: str, revision: str, timeout_s: float, *, files: bool) -> "ModelInfo":
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    check_repo(repo)
    # What HF_HUB_DISABLE_TELEMETRY sets. Left alone the library asks the hub for a list of programs (GET
    # /api/agent-harnesses) to name one in its User-Agent. Source: huggingface_hub 2.4.0, utils/_headers.py.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    api = HfApi(
        endpoint=hub.endpoint, token=hub.token or False, library_name="qwenctl", library_version=__version__
    )
    try:
        if files:
            return api.model_info(repo, revision=revision, timeout=timeout_s, files_metadata=True)
        return api.model_info(repo, revision=revision, timeout=timeout_s, expand=["sha"])
    except GatedRepoError as error:
        raise FetchError(
            f"cannot read repository {repo}: it is gated",
            hint=f"accept its conditions on {hub.endpoint}/{repo}, then set HF_TOKEN or run: hf auth login",
        ) from error
    except RevisionNotFoundError as error:
        raise NoSuchRevisionError(
            f"cannot find revision {revision} of {repo}: no such branch, tag or commit",
            hint="check [model] revision",
        ) from error
    except RepositoryNotFoundError as error:
        raise _no_repository(repo) from error
    except HfHubHTTPError as error:
        raise refusal(repo, int(error.response.status_code), error.response.headers) from error
    except HTTPError as error:
        cause = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in cause:
            raise untrusted(hub.endpoint, cause) from error
        raise PassingError(
            f"cannot reach {hub.endpoint}: {cause}",
            hint="check the network, HF_ENDPOINT and the proxy settings",
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _nonsense(repo) from error


def _no_repository(repo: str) -> FetchError:
    """Return the error for a repository that isn't there, or that this token may not see."""
    return FetchError(
        f"cannot find repository {repo}: there is none, or it is private",
        hint=f"check the spelling; {TOKEN_HINT}",
    )


def _nonsense(repo: str) -> FetchError:
    return FetchError(
        f"cannot read repository {repo}: the hub's answer makes no sense",
        hint="check HF_ENDPOINT; a login page of the network also does this",
    )


def _commit(sha: object) -> str:
    if not isinstance(sha, str) or not is_commit(sha):
        raise ValueError(sha)
    return sha


def _remote_file(sibling: object) -> RemoteFile | None:
    """Return a file of the listing, None for one whose name could leave the cache folder."""
    name, size = getattr(sibling, "rfilename"), getattr(sibling, "size")  # noqa: B009 - the library is untyped
    if not isinstance(name, str):
        raise TypeError(name)
    if "\\" in name or "\0" in name or str(PurePosixPath(name)) != name or name.startswith("/"):
        return None
    if any(part in ("", ".", "..") for part in name.split("/")) or not isinstance(size, int) or size <= 0:
        return None
    lfs = getattr(sibling, "lfs", None)
    sha256 = getattr(lfs, "sha256", None)
    return RemoteFile(name, size, sha256 if isinstance(sha256, str) and SHA256.fullmatch(sha256) else None)
