"""Find the profile of a repository of the hub: its listing gives the quants, one header the architecture.

Both are kept on this disk, so the hub is asked once. The sizes of single tensors are estimates until the
header of the chosen file has been read; ``with_exact_sizes`` reads it.
"""

import asyncio
import difflib
from collections.abc import Coroutine, Mapping
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from qwenctl import paths
from qwenctl.errors import FetchError, ModelFileError, SettingsError
from qwenctl.fetch.hub import Hub, default_hub
from qwenctl.fetch.listing import RemoteHeader, RepositoryListing, read_listing, read_remote_header
from qwenctl.model.from_gguf import other_kind, profile_from_gguf, quant_of
from qwenctl.model.from_listing import (
    FLOAT_BITS,
    ListedModel,
    RepositoryFiles,
    first_header,
    quants_of,
    repository_of,
    with_listing,
)
from qwenctl.model.gguf_header import Header
from qwenctl.model.name import HubModel
from qwenctl.model.profile import HubSource, Profile, Quant

Answer = TypeVar("Answer")
SHOWN = 8
"""So many names of a repository are shown where one must be chosen."""
OF_LISTING = "the repository's listing"
LARGE = "twice the size of Q8_0, and answers are hardly better"
POOR = "below 3 bits a weight, answers suffer"
KINDS = {
    "projector": "a projector (it turns images into tokens)",
    "mtp": "a file with a prediction block",
    "draft": "a draft model",
    "imatrix": "an importance matrix",
    "adapter": "an adapter (LoRA)",
    "vocabulary": "a vocabulary without weights",
    "unusable": "made for another engine: llama.cpp has no such quant",
}


def listed_profile(
    wanted: HubModel, known: tuple[Profile, ...], named: str | None, *, offline: bool, update: bool = False
) -> Profile:
    """Return the profile of a repository. ``named``: the profile that was named beside it.

    Raises:
        FetchError: the hub cannot be asked, or the repository or the file cannot be used.
        SettingsError: it has no such quant or file, or a name is needed.
    """
    hub = default_hub(offline=offline)
    listing, warning = _listing(wanted, hub, update=update)
    repository = repository_of(listing.files)
    models = _wanted_models(wanted, repository)
    first = first_header(RepositoryFiles(models))
    if first is None:
        raise _nothing(wanted.repo, repository)
    headers = _headers(listing, first, hub)
    if (kind := other_kind(headers[0])) is not None:
        raise ModelFileError(
            f"cannot use {first.files[0].name} of {wanted.repo}: it is {kind.what}", kind.hint
        )
    try:
        profile = profile_from_gguf(headers, first.files, known, named)
    except FetchError as error:
        message = error.message.replace("the file", f"{first.files[0].name} of {wanted.repo}", 1)
        raise ModelFileError(message, error.hint) from error
    parameters = sum(prod(tensor.dims) for header in headers for tensor in header.tensors)
    quants = quants_of(models, profile.architecture, parameters, _divergences(known, profile))
    exact = _exact(first, headers)
    own = next((quant for quant in quants if quant.files == first.files), None)
    notes = [one for one in (profile.note, warning) if one]
    return profile.model_copy(
        update={
            "name": _name(wanted.repo) if profile.name not in {one.name for one in known} else profile.name,
            "note": "; ".join(notes) or None,
            "hub": HubSource(repo=listing.repo, revision=listing.commit, source=OF_LISTING),
            "quants": tuple(_noted(_joined(quant, exact) if quant is own else quant) for quant in quants),
        }
    )


def with_listed_quants(profile: Profile, wanted: str, *, offline: bool) -> Profile:
    """Return a profile with what its repository lists beside its own quants, if that has the wanted one.

    Raises:
        FetchError: the hub cannot be asked.
    """
    if profile.hub is None:
        return profile
    asked = HubModel(profile.hub.repo, quant=wanted, revision=profile.hub.revision)
    listing, _ = _listing(asked, default_hub(offline=offline), update=False)
    completed, _ = with_listing(profile, listing.files)
    return completed if completed.quant(wanted) is not None else profile


def with_exact_sizes(profile: Profile, name: str, *, offline: bool) -> Profile | None:
    """Return the profile with the sizes of a quant as its header has them; None if they are exact already.

    Raises:
        FetchError: the header cannot be had.
    """
    quant = profile.quant(name)
    if quant is None or not quant.estimated or not quant.source.startswith(OF_LISTING) or profile.hub is None:
        return None
    hub = default_hub(offline=offline)
    listing, _ = _listing(HubModel(profile.hub.repo, revision=profile.hub.revision), hub, update=False)
    listed = ListedModel("model", "", quant.name, quant.files)
    exact = _joined(quant, _exact(listed, _headers(listing, listed, hub)))
    return profile.model_copy(
        update={"quants": tuple(exact if one is quant else one for one in profile.quants)}
    )


def header_file(profile: Profile, name: str, *, offline: bool) -> Path:
    """Return the header of a quant's first file, with a hole to the size of the file.

    Raises:
        FetchError: it cannot be had.
    """
    quant = profile.quant(name)
    if quant is None or profile.hub is None:
        raise FetchError(f"cannot read the header of {name}: {profile.name} has no such file")
    hub = default_hub(offline=offline)
    listing, _ = _listing(HubModel(profile.hub.repo, revision=profile.hub.revision), hub, update=False)
    return _remote(listing, ListedModel("model", "", quant.name, quant.files), hub)[0].path


def _listing(wanted: HubModel, hub: Hub, *, update: bool) -> tuple[RepositoryListing, str | None]:
    def sufficient(listing: RepositoryListing) -> bool:
        asked = wanted.file or wanted.quant
        return asked is None or bool(repository_of(listing.files).find(asked))

    read = _run(
        read_listing(
            wanted.repo,
            wanted.revision or "main",
            folder=paths.cache_dir() / "listings",
            hub=hub,
            update=update,
            sufficient=sufficient,
        )
    )
    return read.listing, read.warning


def _headers(listing: RepositoryListing, model: ListedModel, hub: Hub) -> tuple[Header, ...]:
    return tuple(one.header for one in _remote(listing, model, hub))


def _remote(listing: RepositoryListing, model: ListedModel, hub: Hub) -> tuple[RemoteHeader, ...]:
    names = {file.name for file in model.files}
    files = tuple(file for file in listing.files if file.name in names)
    return _run(read_remote_header(listing, files, folder=paths.cache_dir() / "headers", hub=hub))


def _run(question: Coroutine[Any, Any, Answer]) -> Answer:
    """Wait for the hub, in the thread that plans."""
    return asyncio.run(question)


def _wanted_models(wanted: HubModel, repository: RepositoryFiles) -> tuple[ListedModel, ...]:
    """Return the models to choose from: the named one, else all, where they are quants of one model."""
    asked = wanted.file or wanted.quant
    if asked is None:
        if len(repository.names) > 1:
            raise _must_choose(wanted.repo, "it holds several models", repository.models)
        return repository.models
    found = repository.find(asked)
    if not found:
        names = {one.label: one for one in repository.models}
        near = difflib.get_close_matches(asked, names, n=3, cutoff=0.4) or list(names)[:SHOWN]
        raise SettingsError(
            f"cannot find {asked} in {wanted.repo}: it has no such {'file' if wanted.file else 'quant'}",
            hint=f"it has {', '.join(near)}" if near else "look at its page",
        )
    if len(found) > 1:
        raise _must_choose(wanted.repo, f"{asked} is the name of several files", found)
    (one,) = found
    if one.missing:
        raise FetchError(
            f"cannot use {one.files[0].name} of {wanted.repo}: its part {one.missing[0]} is not there",
            hint="name another quant, or another publisher's repository",
        )
    if one not in repository.models:
        what = KINDS.get(one.kind, f"no model but {one.kind}")
        raise ModelFileError(
            f"cannot use {one.files[0].name} of {wanted.repo}: it is {what}", hint="name a model of it"
        )
    return found


def _must_choose(repo: str, why: str, models: tuple[ListedModel, ...]) -> SettingsError:
    names = [one.files[0].name for one in models]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return SettingsError(
        f"cannot choose a model of {repo}: {why}",
        hint=f"name one as {repo}:FILE, of {', '.join(names[:SHOWN])}{more}",
    )


def _nothing(repo: str, repository: RepositoryFiles) -> FetchError:
    kinds = sorted({KINDS.get(one.kind, one.kind) for one in repository.others if not one.missing})
    return FetchError(
        f"cannot use repository {repo}: it has no whole model"
        + (f", only {', '.join(kinds)}" if kinds else ""),
        hint="look for another publisher's repository of the same model",
    )


def _exact(model: ListedModel, headers: tuple[Header, ...]) -> Quant:
    return quant_of(headers, model.files)


def _joined(listed: Quant, exact: Quant) -> Quant:
    """Return a quant under its name in the listing, with the sizes of its header."""
    return exact.model_copy(
        update={
            "name": listed.name,
            "kl_divergence": listed.kl_divergence,
            "named_only": listed.named_only,
            "note": listed.note,
        }
    )


def _noted(quant: Quant) -> Quant:
    """Return a quant with the reason why it is used only if a person names it."""
    if not quant.named_only or quant.note is not None:
        return quant
    note = LARGE if quant.bits_per_weight >= FLOAT_BITS else POOR
    return quant.model_copy(update={"note": note})


def _divergences(known: tuple[Profile, ...], profile: Profile) -> Mapping[str, float]:
    """Return what is known of quants of the same model, from the profile that lent its presets."""
    lender = next((one for one in known if one.sampling == profile.sampling and one.hub is not None), None)
    quants = lender.quants if lender is not None else ()
    return {quant.name: quant.kl_divergence for quant in quants if quant.kl_divergence is not None}


def _name(repo: str) -> str:
    """Return a repository's name without the ending that only says what its files are."""
    name = repo.rsplit("/", maxsplit=1)[-1]
    return name[:-5] if name.lower().endswith("-gguf") and len(name) > 5 else name
