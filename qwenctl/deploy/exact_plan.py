"""Make the plan of what was resolved and surveyed, by the exact sizes of the very file that will be served.

The sizes in a listing are estimates: the header of a quant is read once it is chosen. For a family that
nobody has written formulas for, the engine is asked. Either way the plan is made again with what is known.
"""

from dataclasses import replace

from qwenctl import paths
from qwenctl.deploy.engine_answer import engine_answer
from qwenctl.deploy.listed_model import with_exact_sizes
from qwenctl.deploy.types import ResolvedSettings, Surveyed
from qwenctl.errors import NoFitError
from qwenctl.hardware.devices import reserve
from qwenctl.model.layers import is_known
from qwenctl.model.toml import load_profiles
from qwenctl.plan.known import KnownLoad
from qwenctl.plan.memory import Load
from qwenctl.plan.outcome import Plan
from qwenctl.plan.planner import NoFit, plan
from qwenctl.plan.wire import no_fit_to_json


def decide(resolved: ResolvedSettings, surveyed: Surveyed) -> tuple[ResolvedSettings, Plan]:
    """Return the plan by exact sizes, and what it is of.

    The header of a quant is read once it is chosen. Where the formulas have only a bound, the engine is
    asked, and the plan is made again with its answer.

    Raises:
        NoFitError: nothing fits.
        FetchError: the header of the chosen file cannot be read.
    """
    known = _asked_before(resolved, surveyed)
    for _ in range(2 * len(resolved.profile.quants) + 2):  # each round makes one quant exact, or knows a load
        chosen = choose(resolved, surveyed, known)
        exact = with_exact_sizes(resolved.profile, chosen.quant, offline=resolved.settings.fetch.offline)
        answer = None if is_known(resolved.profile.architecture) else _answer(resolved, surveyed, chosen)
        if exact is None and (answer is None or answer in known):
            return resolved, chosen
        resolved = resolved if exact is None else replace(resolved, profile=exact)
        known = known if answer is None or answer in known else (*known, answer)
    return resolved, choose(resolved, surveyed, known)


def _asked_before(resolved: ResolvedSettings, surveyed: Surveyed) -> tuple[KnownLoad, ...]:
    """Return the engine's answer about a file of an unknown kind: by the bound it might seem too large."""
    profile, wanted = resolved.profile, resolved.settings.context
    if is_known(profile.architecture) or len(profile.quants) > 1:
        return ()
    tokens = min(wanted.tokens, profile.architecture.context_length)
    kv_type = "f16" if wanted.kv_type == "auto" else wanted.kv_type
    load = Load(tokens, kv_type, wanted.parallel)
    answer = engine_answer(resolved, surveyed, profile.quants[0].name, load)
    return () if answer is None else (answer,)


def _answer(resolved: ResolvedSettings, surveyed: Surveyed, chosen: Plan) -> KnownLoad | None:
    load = Load(chosen.context_tokens, chosen.kv_type, chosen.parallel)
    return engine_answer(resolved, surveyed, chosen.quant, load)


def choose(resolved: ResolvedSettings, surveyed: Surveyed, known: tuple[KnownLoad, ...] = ()) -> Plan:
    """Return the plan, none of what memory ran out for before.

    What was measured here and what is ``known`` beside it correct the formulas.

    Raises:
        NoFitError: nothing fits.
    """
    profile, settings = resolved.profile, resolved.settings
    hardware, refused = reserve(surveyed.hardware, settings.hardware.reserve_mib), surveyed.refused
    known = (*surveyed.known, *known)
    chosen = plan(hardware, profile, settings, refused=refused, known=known)
    if isinstance(chosen, NoFit):
        siblings = load_profiles(paths.data_root() / "profiles", paths.config_dir() / "profiles")
        chosen = plan(hardware, profile, settings, siblings=siblings, refused=refused, known=known)
    if isinstance(chosen, NoFit):
        error = NoFitError(f"cannot plan {chosen.profile}: {chosen.reason}", hint=chosen.hint)
        error.data = no_fit_to_json(chosen)
        raise error
    return chosen
