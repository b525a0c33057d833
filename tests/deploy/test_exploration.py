"""Every order of wishes, effects and endings keeps the promises of a change."""

from qwenctl.deploy import states as st
from qwenctl.launch.configuration import Configuration
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as sv
from tests.deploy.exploring import (
    BROKEN,
    NO_HUB,
    SMALLER,
    TAKEN,
    UNPLANNABLE,
    Step,
    Walk,
    World,
    name_of,
)

REFUSED = {NO_HUB, TAKEN, BROKEN}


def check(walk: Walk) -> None:
    for step in walk:
        _a_refusal_changes_nothing(step)
        _what_is_kept_generated_a_token(step)
        _every_stage_is_waited_for(step)
        _numbers_only_grow(step)
    assert walk.final, "the walk ends somewhere"
    for world in walk.final:
        _the_newest_wish_won(world)


def test_good_wishes_in_every_order_end_with_the_newest() -> None:
    check(Walk(("a", "b"), asks=3))


def test_refused_wishes_in_every_order_change_nothing() -> None:
    check(Walk(("a", UNPLANNABLE, NO_HUB), asks=3, kills=0))


def test_a_taken_address_and_a_broken_server_change_nothing() -> None:
    check(Walk(("a", TAKEN, BROKEN), asks=3, kills=0))


def test_out_of_memory_goes_down_to_what_fits_whatever_is_wished_meanwhile() -> None:
    check(Walk(("a", "big"), asks=2, kills=0))


def _serves(world: World) -> Configuration | None:
    return lc.in_force(world.server)


def _a_refusal_changes_nothing(step: Step) -> None:
    before, after = step.before.deploy, step.after.deploy
    if after.refused is None or after.refused == before.refused or after.refused.rolled_back:
        return
    assert _serves(step.after) == _serves(step.before), step.what
    assert after.kept == before.kept, step.what
    moved = (st.Try, st.Replace, st.Open)
    assert not any(isinstance(action, moved) for action in step.deploy_actions), step.what


def _what_is_kept_generated_a_token(step: Step) -> None:
    for action in step.deploy_actions:
        if isinstance(action, st.Keep):
            assert step.after.server.good is not None, step.what
            assert action.configuration.starts_like(step.after.server.good), step.what


def _every_stage_is_waited_for(step: Step) -> None:
    """Whatever is on its way, an effect that has not answered yet will move it on."""
    world, state = step.after, step.after.deploy
    if state.planning is not None:
        assert state.planning in world.plans, step.what
    if isinstance(state.stage, st.Fetching):
        assert world.transfer is not None, step.what
    if isinstance(state.stage, st.Opening):
        assert world.opening is not None, step.what
    if state.trial is not None:
        assert state.trial.configuration.starts_like(world.server.want), step.what
    assert (state.transfer is None) == (world.transfer is None), step.what


def _numbers_only_grow(step: Step) -> None:
    assert step.after.deploy.number >= step.before.deploy.number, step.what


def _the_newest_wish_won(world: World) -> None:
    """At rest, the newest wish that could be planned is served, or it was refused and changed nothing."""
    plannable = [name for name in world.wishes if name != UNPLANNABLE]
    state, server = world.deploy, world.server
    assert state.stage == st.Rest()
    if not plannable:
        assert server.want is None
        return
    newest = plannable[-1]
    if newest in REFUSED:
        assert state.refused is not None or server.good is None
        assert name_of(_serves(world)) != newest or server.good is None
        return
    if newest in SMALLER and state.refused is not None and state.refused.rolled_back:
        assert _serves(world) == state.kept, "a new configuration that fails gives way to the last good one"
        assert name_of(state.kept) in world.wishes[:-1]
        return
    while newest in SMALLER:
        newest = SMALLER[newest]
    assert isinstance(server.phase, sv.Ready), (world.wishes, server.phase)
    assert name_of(server.phase.child.configuration) == newest, world.wishes
    assert name_of(state.kept) == newest
