"""What the doctor says of what was found."""

import pytest

from qwenctl.service import diagnosis
from qwenctl.service.diagnosis import Node

RENDER = Node("/dev/dri/renderD128", 0o20660, 0, 105)
NAMES = {105: "render"}


@pytest.mark.parametrize(
    ("uid", "groups", "mode", "may"),
    [
        (0, frozenset[int](), 0o600, True),
        (1000, frozenset({105}), 0o660, True),
        (1000, frozenset({44}), 0o660, False),
        (1000, frozenset({105}), 0o606, False),
        (1000, frozenset[int](), 0o666, True),
    ],
)
def test_one_class_of_rights_decides(uid: int, groups: frozenset[int], mode: int, may: bool) -> None:  # noqa: FBT001
    assert diagnosis.may_use(Node("/dev/x", mode, 0, 105), uid, groups) is may


def test_a_gpu_that_the_user_may_not_use_is_a_problem_with_its_group() -> None:
    found = diagnosis.visible((RENDER,), "ada", 1000, frozenset({1000}), NAMES)
    assert found.verdict == "problem"
    assert found.fix is not None
    assert "usermod -aG render ada" in found.fix
    assert diagnosis.visible((RENDER,), "ada", 1000, frozenset({105}), NAMES).verdict == "ok"
    assert diagnosis.visible((), "ada", 1000, frozenset(), NAMES).verdict == "ok"


def test_a_binary_that_sees_none_of_the_gpus_is_a_problem() -> None:
    found = diagnosis.backend("/usr/bin/llama-server", (), ("cuda NVIDIA RTX 4090",))
    assert found.verdict == "problem"
    assert "cuda NVIDIA RTX 4090" in found.finding
    assert found.fix == "install a llama-server built for cuda and set [server] binary"
    assert diagnosis.backend("/x", ("CUDA0 (RTX 4090)",), ("cuda NVIDIA RTX 4090",)).verdict == "ok"
    assert diagnosis.backend("/x", (), ()).verdict == "ok"


def test_a_disk_must_hold_what_is_missing_and_a_margin() -> None:
    assert diagnosis.disk("/", 10**9, 10**9).verdict == "problem"
    assert diagnosis.disk("/", 2 * 10**9, 10**9).verdict == "ok"
    assert diagnosis.disk("/", 0, 0).verdict == "ok"


def test_folders_are_ours_and_the_state_is_private() -> None:
    assert diagnosis.owned("state", None, "/x", 1, private=True).verdict == "ok"
    assert diagnosis.owned("state", Node("/x", 0o40700, 1, 1), "/x", 1, private=True).verdict == "ok"
    assert diagnosis.owned("state", Node("/x", 0o40755, 1, 1), "/x", 1, private=True).fix == "chmod 700 /x"
    assert diagnosis.owned("cache", Node("/x", 0o40755, 1, 1), "/x", 1, private=False).verdict == "ok"
    spaced = diagnosis.owned("state", Node("/a b", 0o40755, 1, 1), "/a b", 1, private=True)
    assert spaced.fix == "chmod 700 '/a b'"  # on a Mac every default folder has a space
    assert diagnosis.owned("cache", Node("/x", 0o40755, 0, 0), "/x", 1, private=False).verdict == "problem"


def test_limits_matter_where_they_are_met() -> None:
    assert diagnosis.files_limit(256).verdict == "problem"
    assert diagnosis.files_limit(-1).verdict == "ok"
    assert diagnosis.memlock(65536, wanted=True).verdict == "problem"
    assert diagnosis.memlock(65536, wanted=False).verdict == "ok"
    assert diagnosis.memlock(-1, wanted=True).verdict == "ok"
    assert diagnosis.swap(0, 0).verdict == "ok"
    assert diagnosis.swap(8 * 10**9, 80).verdict == "note"


def test_a_plan_that_fits_with_a_fix_only_names_it() -> None:
    fix = "sudo sysctl iogpu.wired_limit_mb=28000"
    assert diagnosis.fits("x", "tight", fix).fix == fix
    assert diagnosis.fits("x", "tight", fix).verdict == "problem"
    assert diagnosis.fits("x", "fits", None).verdict == "ok"


def test_the_past_is_a_problem_while_it_lasts() -> None:
    ending = {"summary": "memory ran out", "hint": "choose a smaller quant"}
    status = {"phase": "ready", "restarts": {"total": 2}, "last_ending": ending}
    assert diagnosis.endings(status, "status.json").verdict == "note"
    assert diagnosis.endings(status | {"phase": "backoff"}, "status.json").fix == "choose a smaller quant"
    assert diagnosis.endings(status | {"last_ending": None}, "status.json").verdict == "ok"
    assert diagnosis.endings(None, "status.json").verdict == "ok"
