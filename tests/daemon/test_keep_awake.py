"""When the machine must not go to sleep, and what keeps it awake."""

from dataclasses import replace

import pytest

from qwenctl.daemon.keep_awake import FETCHES, SERVES, Awake, why_awake, words
from qwenctl.deploy import states as change
from qwenctl.deploy.types import Draft
from qwenctl.errors import ControlError
from qwenctl.service import command
from qwenctl.settings.types import ServerSettings, Settings
from tests.deploy.exploring import draft
from tests.fakes.configurations import configuration
from tests.fakes.home import until

WISH = change.Wish(1, "start", None)


def settings(keep_awake: str) -> Settings:
    return Settings(server=ServerSettings.model_validate({"keep_awake": keep_awake}))


def drafted(keep_awake: str) -> Draft:
    one = draft("x")
    return replace(one, resolved=replace(one.resolved, settings=settings(keep_awake)))


@pytest.mark.parametrize(
    ("mode", "stage", "kept", "downloading", "why"),
    [
        ("fetching", "fetching", None, True, FETCHES),
        ("fetching", "fetching", None, False, None),
        ("fetching", "rest", "fetching", True, None),
        ("never", "fetching", None, True, None),
        ("serving", "fetching", None, True, FETCHES),
        ("serving", "rest", "serving", False, SERVES),
        ("never", "fetching", "serving", True, SERVES),
        ("fetching", "rest", "never", False, None),
    ],
)
def test_the_machine_stays_awake_while_there_is_what_the_settings_name(
    mode: str,
    stage: str,
    kept: str | None,
    downloading: bool,  # noqa: FBT001
    why: str | None,
) -> None:
    served = None if kept is None else configuration("x", settings=settings(kept))
    now = change.ChangeState(kept=served)
    if stage == "fetching":
        now = replace(now, stage=change.Fetching(WISH, drafted(mode)))
    assert why_awake(now, downloading=downloading) == why


def test_each_system_has_its_program() -> None:
    assert words(FETCHES, "darwin") == ("caffeinate", "-i", "cat")
    linux = words(SERVES, "linux")
    assert linux[:2] == ("systemd-inhibit", "--what=idle"), "a suspend that the user asks for is not refused"
    assert "--why=serving a model" in linux


def test_a_reason_that_stays_starts_nothing_again_and_one_that_goes_ends_it() -> None:
    held: list[command.Held] = []

    def hold(_: tuple[str, ...]) -> command.Held:
        held.append(command.hold(("cat",)))
        return held[-1]

    awake = Awake(hold)
    for why in (None, FETCHES, FETCHES, SERVES, None, None):
        awake.update(why)
    assert len(held) == 2
    awake.update(SERVES)
    awake.close(wait_s=10)
    assert held[-1].ended(), "no program that takes this one's place would wait for it"
    awake.update(SERVES)
    awake.close()
    assert len(held) == 4
    for one in held:
        until(one.ended, within=10)


def test_a_system_without_such_a_program_sleeps_as_ever() -> None:
    asked: list[tuple[str, ...]] = []

    def hold(wanted: tuple[str, ...]) -> command.Held:
        asked.append(wanted)
        raise ControlError("cannot run it: not found")

    awake = Awake(hold)
    for why in (FETCHES, FETCHES, FETCHES):
        awake.update(why)
    assert len(asked) == 1
    awake.close()
