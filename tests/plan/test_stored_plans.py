"""Whole plans, one for each machine class, compared with stored files.

After a wanted change: ``python tests/plan/test_stored_plans.py`` writes them anew; read the difference.
"""

import json
import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from qwenctl.model.toml import load_profiles
from qwenctl.plan.planner import Plan, plan
from qwenctl.plan.wire import no_fit_to_json, to_json
from qwenctl.settings.types import Settings
from tests.fakes.machines import MACHINES, PROFILES, machine, profile

STORED = Path(__file__).parent / "stored"
NAMES = sorted(path.stem for path in MACHINES.glob("*.json"))
PLAN_KEYS = {
    *("profile", "quant", "repo", "revision", "files", "context_tokens", "kv_type", "parallel"),
    *("cache_ram_mib", "verdict", "memory", "argv", "considered", "warnings"),
}
MEMORY_KEYS = {
    *("weights_bytes", "kv_bytes", "recurrent_bytes", "compute_bytes", "overhead_bytes", "device_bytes"),
    *("host_bytes", "budget_bytes", "headroom_bytes", "devices", "source"),
}


def written(name: str) -> str:
    outcome = plan(
        machine(name),
        profile("qwen3.6-27b"),
        Settings(),
        siblings=load_profiles(PROFILES, PROFILES / "none"),
    )
    if isinstance(outcome, Plan):
        data: dict[str, object] = to_json(outcome)
    else:
        data = no_fit_to_json(outcome) | {"reason": outcome.reason, "hint": outcome.hint}
    return json.dumps(data, indent=1) + "\n"


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_is_the_stored_one(name: str) -> None:
    assert written(name) == (STORED / f"{name}.json").read_text(encoding="utf-8")


def test_the_shape_is_the_published_one() -> None:
    data = json.loads(written("rtx4090-24gb"))
    assert set(data) >= PLAN_KEYS
    assert set(data["memory"]) >= MEMORY_KEYS
    assert set(data["memory"]["devices"][0]) >= {"id", "need_bytes", "budget_bytes"}
    assert set(data["files"][0]) == {"name", "bytes", "sha256"}


if __name__ == "__main__":
    for one in NAMES:
        (STORED / f"{one}.json").write_text(written(one), encoding="utf-8")
