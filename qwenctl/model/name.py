"""Read what a person calls a model: a profile, a file, or a repository of a hub. Pure: no I/O.

A repository is written ``OWNER/REPO[:QUANT or :FILE.gguf][@REVISION]``, as llama.cpp's ``-hf`` has it, or is
the address of one of its pages.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from qwenctl.errors import ProfileError, SettingsError

HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co", "hf-mirror.com")
"""Hosts whose pages have the hub's addresses. hf-mirror.com is the mirror that HF_ENDPOINT often names."""
HOW = "name a profile (qwenctl profiles lists them), a GGUF file, or OWNER/REPO[:QUANT] of the hub"
REPO_PART = re.compile(r"[\w.-]{1,96}")
"""One half of a repository's name. Source: huggingface_hub, validate_repo_id."""
QUANT = re.compile(r"[\w.+-]{1,96}")
REVISION = re.compile(r"[\w.+-]+(?:/[\w.+-]+)*")
OTHER_FILE = re.compile(r"\.[A-Za-z]\w*$")
SPLIT = re.compile(r"-\d{5}-of-(\d{5})\.gguf$", re.IGNORECASE)
LONGEST = 4096
"""The longest name that is read. Source: PATH_MAX of Linux."""
PAGES = ("tree", "blob", "resolve", "raw")
"""What stands in the hub's addresses before a revision."""
AS_PATH = ("/", "./", "../", "~")


@dataclass(frozen=True, slots=True)
class ProfileName:
    """A profile, by its name or by its file (``./mine.toml``)."""

    name: str


@dataclass(frozen=True, slots=True)
class FilePath:
    """A GGUF file of this machine, as it was written; of a split file its first part."""

    path: str


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository of a hub, and what of it: a quant, or a file."""

    repo: str
    quant: str | None = None
    file: str | None = None
    revision: str | None = None


ModelName = ProfileName | FilePath | HubModel


def quant_key(name: str) -> str:
    """Return what two spellings of one quant have in common: letters and digits, in lower case."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def parse_name(text: str, profiles: Iterable[str], *, is_file: bool) -> ModelName:
    """Return what ``text`` names. ``is_file``: there is a file of that name.

    A profile goes before a file, and a file before a repository: ``./NAME`` always means a file.

    Raises:
        ProfileError: it is one word, and no profile's name.
        SettingsError: it can be no name of a model.
    """
    text, names = text.strip(), {name.lower(): name for name in profiles}
    if not text or "\0" in text or "\n" in text or len(text) > LONGEST:
        raise _no_name(text, "it is empty" if not text else "no name looks like that")
    if text.lower() in names:
        return ProfileName(names[text.lower()])
    if text.endswith(".toml"):
        return ProfileName(text)
    if text.startswith("file://"):
        return FilePath(unquote(text.removeprefix("file://")))
    if is_file or text.startswith(AS_PATH):
        return FilePath(text)
    if "://" in text or text.lower().startswith(tuple(f"{host}/" for host in HUB_HOSTS)):
        return _of_address(text)
    repo, *_ = re.split("[:@]", text, maxsplit=1)
    if "/" not in repo and not text.lower().endswith(".gguf"):
        raise _no_profile(text, names)
    if ":" not in text and text.lower().endswith(".gguf"):
        return FilePath(text)
    return _of_repository(text)


def layer_of(name: ModelName) -> dict[str, object]:
    """Return the settings that a name stands for. It also takes back what others say of the model.

    None at ``profile`` or ``quant`` means that this layer says nothing of it.
    """
    nothing: dict[str, object] = {"path": None, "repo": None, "file": None, "revision": None, "quant": None}
    match name:
        case ProfileName():
            return {"profile": name.name, "model": nothing}
        case FilePath():
            return {"profile": None, "model": nothing | {"path": name.path}}
        case HubModel():
            of_hub = {"repo": name.repo, "file": name.file, "revision": name.revision, "quant": name.quant}
            return {"profile": None, "model": nothing | of_hub}


def _of_repository(text: str) -> HubModel:
    match = re.fullmatch(r"(?P<repo>[^:@]+)(?::(?P<what>[^@]*))?(?:@(?P<revision>.*))?", text)
    if match is None:
        raise _no_name(text, "it is not OWNER/REPO[:QUANT][@REVISION]")
    parts = match["repo"].split("/")
    if len(parts) > 2:
        owner, repo, *rest = parts
        file = "/".join(rest)
        raise SettingsError(
            f"cannot use model {text}: there is no such file, and a repository is OWNER/REPO",
            hint=f"a file of a repository is written {owner}/{repo}:{file}",
        )
    return _hub_model(text, parts, match["what"], match["revision"])


def _of_address(text: str) -> HubModel:
    """Return the repository of a page's address, as a browser shows it."""
    try:
        address = urlsplit(text if "://" in text else f"https://{text}")
    except ValueError as error:
        raise _no_name(text, "the address cannot be read") from error
    host = (address.hostname or "").lower()
    if address.scheme not in ("http", "https") or host not in HUB_HOSTS:
        raise SettingsError(
            f"cannot use model {text}: it is no address of the hub, whose pages are on {HUB_HOSTS[0]}",
            hint="download the file and name its path, or name OWNER/REPO of the hub",
        )
    parts = [unquote(part) for part in address.path.split("/") if part]
    if len(parts) < 2 or parts[0] in ("datasets", "spaces", "api", "models", "docs", "collections"):
        raise _no_name(text, "the page is not that of a model")
    (owner, repo, *rest), shown = parts, parse_qs(address.query).get("show_file_info")
    if shown and not rest:
        return _hub_model(text, [owner, repo], shown[0], None)
    if not rest or rest[0] not in PAGES:
        return _of_repository(f"{owner}/{repo}")  # Ollama writes hf.co/OWNER/REPO:QUANT
    long = 3 if rest[1:2] == ["refs"] else 1  # refs/pr/1, where it was not escaped
    revision, inside = "/".join(rest[1 : 1 + long]), rest[1 + long :]
    folder = rest[0] == "tree"  # a folder of a repository is named after the quant in it
    what = (inside[-1] if inside else None) if folder else "/".join(inside)
    return _hub_model(text, [owner, repo], what, revision or None)


def _hub_model(text: str, parts: list[str], what: str | None, revision: str | None) -> HubModel:
    owner, repo = parts
    name = f"{owner}/{repo}"
    if any(REPO_PART.fullmatch(part) is None for part in (owner, repo)) or ".." in name or "--" in name:
        raise _no_name(text, f"{name!r} is not OWNER/REPO")
    if revision is not None and (REVISION.fullmatch(revision) is None or ".." in revision):
        raise _no_name(text, f"{revision!r} is no branch, tag or commit")
    if not what or what.lower() == "latest":
        return HubModel(name, revision=revision)
    if what.lower().endswith(".gguf"):
        if any(part in ("", ".", "..") for part in what.split("/")) or "\\" in what:
            raise _no_name(text, f"{what!r} is no file of a repository")
        return HubModel(name, file=SPLIT.sub(r"-00001-of-\1.gguf", what), revision=revision)
    if QUANT.fullmatch(what) is None or OTHER_FILE.search(what):
        raise _no_name(text, f"{what!r} is neither a quant nor a GGUF file")
    return HubModel(name, quant=what, revision=revision)


def _no_profile(text: str, names: dict[str, str]) -> ProfileError:
    near = difflib.get_close_matches(text.lower(), names, n=1)
    return ProfileError(
        f"cannot find model {text!r}: no profile has that name, and there is no such file",
        hint=f"did you mean {names[near[0]]}?" if near else HOW,
    )


def _no_name(text: str, why: str) -> SettingsError:
    shown = text if len(text) < 200 else f"{text[:200]}..."
    return SettingsError(f"cannot use model {shown!r}: {why}", hint=HOW)
