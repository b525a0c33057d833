"""Loads that were measured here: kept by what they hold for, read back by value, never a traceback."""

from pathlib import Path

import pytest

from qwenctl.control.state_dir import LOADS
from qwenctl.deploy.load_record import MOST_LOADS, load_key, remember_load, remembered_loads
from qwenctl.plan.known import KnownLoad
from qwenctl.plan.memory import Part
from qwenctl.settings.types import Settings
from tests.fakes.machines import machine, profile


def load(tokens: int = 8192, weights: int = 100) -> KnownLoad:
    return KnownLoad("Q4_K_M", tokens, "f16", 1, (Part(weights, 2, 3, 4),), Part(5, 0, 0, 6), "measured")


def test_a_load_is_kept_and_the_newest_of_a_kind_counts(tmp_path: Path) -> None:
    remember_load(tmp_path, "here", load())
    remember_load(tmp_path, "here", load(65536))
    remember_load(tmp_path, "here", load(weights=101))
    remember_load(tmp_path, "elsewhere", load(weights=7))
    assert remembered_loads(tmp_path, "here") == (load(65536), load(weights=101))
    assert remembered_loads(tmp_path, "elsewhere") == (load(weights=7),)
    assert remembered_loads(tmp_path, "nowhere") == ()


def test_the_record_is_bounded(tmp_path: Path) -> None:
    for tokens in range(1, MOST_LOADS + 9):
        remember_load(tmp_path, "here", load(tokens))
    kept = [one.context_tokens for one in remembered_loads(tmp_path, "here")]
    assert kept == list(range(9, MOST_LOADS + 9))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"here": 5}',
        '{"here": [null, 5, "x", [], {}]}',
        '{"here": [{"quant": "Q", "parts": 5}]}',
        (
            '{"here": [{"quant": "Q", "context_tokens": "many", "kv_type": "f16", "parallel": 1, "parts": [],'
            ' "host": {"weights": 1, "kv": 1, "recurrent": 1, "compute": 1}, "source": "measured"}]}'
        ),
        (
            '{"here": [{"quant": "Q", "context_tokens": 1, "kv_type": "f16", "parallel": 1, "parts": [],'
            ' "host": {"weights": -1, "kv": 1, "recurrent": 1, "compute": 1}, "source": "measured"}]}'
        ),
    ],
)
def test_a_damaged_record_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / LOADS).write_text(text, encoding="utf-8")
    assert remembered_loads(tmp_path, "here") == ()
    remember_load(tmp_path, "here", load())
    assert remembered_loads(tmp_path, "here") == (load(),)


def test_another_machine_model_or_option_of_ones_own_is_another_key() -> None:
    plain, own = Settings(), Settings.model_validate({"server": {"extra_args": ["-ub", "2048"]}})
    here = load_key(machine("rtx4090-24gb"), profile("qwen3.6-27b"), plain, None)
    others = {
        load_key(machine("m2-16gb"), profile("qwen3.6-27b"), plain, None),
        load_key(machine("rtx4090-24gb"), profile("qwen3.5-9b"), plain, None),
        load_key(machine("rtx4090-24gb"), profile("qwen3.6-27b"), own, None),
    }
    assert len(others | {here}) == 4
