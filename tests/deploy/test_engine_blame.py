"""When a new engine is at fault, what is said, and what follows for the change."""

from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.deploy import machine
from qwenctl.deploy import states as st
from qwenctl.deploy.engine_blame import blames_engine, cause_alone, told_rejection
from qwenctl.deploy.refused_engines import choose_back, refuse_engine, refused_engines
from qwenctl.engine.builds.installed_engines import (
    ChosenEngine,
    EngineBuild,
    choose,
    chosen,
    read_engine,
    write_build,
)
from qwenctl.engine.program import EngineIdentity
from qwenctl.launch.configuration import Configuration
from qwenctl.settings.types import Settings
from qwenctl.supervise import states as supervised
from qwenctl.supervise.exits import Ending
from qwenctl.supervise.states import Rejection
from tests.fakes.configurations import configuration

OLD = EngineIdentity(Path("/engines/b1/llama-server"), "1", "aaa", "engine use", "b1")
NEW = EngineIdentity(Path("/engines/b2/llama-server"), "2", "bbb", "engine use", "b2")
REPLACED = replace(OLD, version="1.1", fingerprint="ccc")


def with_engine(engine: EngineIdentity, settings: Settings | None = None) -> Configuration:
    made = configuration(str(engine.path))
    made = replace(made, engine=engine, spec=replace(made.spec, engine=engine.fingerprint))
    return made if settings is None else replace(made, settings=settings)


def rejection(tried: Configuration, cause: str = "crashed") -> Rejection:
    return Rejection(tried, Ending(cause, "crashed (SIGABRT)"), 1.0)


@pytest.mark.parametrize(
    ("engine", "other_settings", "cause", "blamed"),
    [
        (NEW, False, "crashed", True),
        (REPLACED, False, "unknown", True),
        (NEW, False, "bad_flag", True),
        (NEW, False, "device_out_of_memory", True),
        (OLD, False, "crashed", False),
        (NEW, True, "crashed", False),
        (NEW, True, "wrong_processor", True),
        (NEW, True, "wrong_libc", True),
        (NEW, False, "killed", False),
        (NEW, False, "port_taken", False),
        (NEW, False, "memory_busy", False),
        (NEW, False, "model_corrupt", False),
    ],
)
def test_an_engine_is_at_fault_where_it_alone_is_new(
    engine: EngineIdentity,
    other_settings: bool,  # noqa: FBT001
    cause: str,
    blamed: bool,  # noqa: FBT001
) -> None:
    settings = Settings.model_validate({"context": {"tokens": 1024}}) if other_settings else None
    tried = with_engine(engine, settings)
    assert blames_engine(rejection(tried, cause), with_engine(OLD)) is blamed


def test_both_engines_are_named() -> None:
    assert told_rejection("crashed", NEW, OLD) == "crashed; b2 does not work here, b1 is in force again"
    told = told_rejection("crashed", NEW, replace(OLD, name=None))
    assert told.endswith("; b2 does not work here, /engines/b1/llama-server (1) is in force again")
    assert "took the place of 1" in told_rejection("crashed", REPLACED, OLD)
    assert told_rejection("crashed", NEW, None) == "crashed"


@pytest.mark.parametrize("instead", [OLD, replace(OLD, name=None), None])
@pytest.mark.parametrize("engine", [NEW, REPLACED])
def test_the_cause_can_be_told_alone(engine: EngineIdentity, instead: EngineIdentity | None) -> None:
    for summary in ("crashed", "exit 1; see the log"):
        assert cause_alone(told_rejection(summary, engine, instead)) == summary


def test_the_verdict_on_a_new_engine_refuses_it() -> None:
    good, tried = with_engine(OLD), with_engine(NEW)
    state = st.ChangeState(number=2, trial=st.OnTrial(st.Wish(2, "engine"), tried), kept=good)
    server = supervised.State(want=tried, good=good, rejected=rejection(tried))
    verdict = machine.verdict(state, server)
    assert isinstance(verdict, st.Rejected)
    after, actions = machine.step(state, verdict)
    assert actions == (st.RefuseEngine(NEW, OLD, verdict.why),)
    assert after.refused == st.Refused(st.Wish(2, "engine"), verdict.why, rolled_back=True)


def test_the_verdict_on_other_settings_refuses_no_engine() -> None:
    good = with_engine(OLD)
    tried = replace(configuration("other"), engine=OLD)
    state = st.ChangeState(number=2, trial=st.OnTrial(st.Wish(2, "file"), tried), kept=good)
    server = supervised.State(want=tried, good=good, rejected=rejection(tried))
    verdict = machine.verdict(state, server)
    assert isinstance(verdict, st.Rejected)
    assert machine.step(state, verdict)[1] == ()


SIGILL = Ending("wrong_processor", "it was built for another processor (SIGILL)", permanent=True)


@pytest.mark.parametrize(
    ("engine", "ending", "refused"),
    [
        (replace(OLD, place="PATH", name=None), SIGILL, True),
        (replace(OLD, place="[server] binary", name=None), SIGILL, False),
        (OLD, Ending("bad_flag", "it does not know a flag", permanent=True), False),
        (OLD, Ending("model_corrupt", "damaged", permanent=True), False),
    ],
)
def test_a_first_engine_whose_build_does_not_suit_is_refused_and_the_wish_goes_on(
    engine: EngineIdentity,
    ending: Ending,
    refused: bool,  # noqa: FBT001
) -> None:
    tried, flags = with_engine(engine), {"context": {"tokens": 1024}}
    state = st.ChangeState(number=1, trial=st.OnTrial(st.Wish(1, "start", flags), tried))
    server = supervised.State(want=tried, phase=supervised.Failed(tried), last=ending)
    verdict = machine.verdict(state, server)
    assert (verdict is not None) is refused
    if verdict is not None:
        after, actions = machine.step(state, verdict)
        assert isinstance(verdict, st.Rejected)
        assert actions == (st.RefuseEngine(engine, None, verdict.why, flags),)
        assert (after.trial, after.refused) == (None, None)


def test_a_replaced_program_is_another_configuration() -> None:
    assert not with_engine(REPLACED).starts_like(with_engine(OLD))
    assert with_engine(OLD).starts_like(with_engine(OLD))


def store(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir(parents=True)
        write_build(root / name, EngineBuild(name, "cpu", "a", None, "llama-server"))


def test_an_installed_engine_keeps_its_reason_and_any_other_by_its_files(tmp_path: Path) -> None:
    store(tmp_path / "engines", "b2")
    refuse_engine(tmp_path, tmp_path / "engines", NEW, "it died")
    assert read_engine(tmp_path / "engines", "b2").refused == "it died"  # type: ignore[union-attr]
    assert refused_engines(tmp_path) == {}
    refuse_engine(tmp_path, tmp_path / "engines", replace(NEW, name=None), "it died")
    assert refused_engines(tmp_path) == {"bbb": "it died"}


def test_only_the_newest_refusals_are_kept_and_a_damaged_record_is_none(tmp_path: Path) -> None:
    for number in range(20):
        refuse_engine(tmp_path, tmp_path, replace(NEW, name=None, fingerprint=str(number)), "x")
    assert list(refused_engines(tmp_path)) == [str(number) for number in range(4, 20)]
    (tmp_path / "refused_engines.json").write_text('{"a": 1, "b": "y"')
    assert refused_engines(tmp_path) == {}


@pytest.mark.parametrize(("good", "current"), [(OLD, "b1"), (replace(OLD, name=None), None), (None, None)])
def test_the_choice_goes_back_to_what_is_in_force(
    tmp_path: Path, good: EngineIdentity | None, current: str | None
) -> None:
    store(tmp_path, "b1", "b2")
    choose(tmp_path, ChosenEngine("b2", "b1"))
    choose_back(tmp_path, good)
    assert chosen(tmp_path) == ChosenEngine(current, None)
