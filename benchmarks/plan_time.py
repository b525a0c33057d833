"""Time the pure planner: the whole search, on every machine in tests/machines and on the hardest case.

Run from the repository's root: python -m benchmarks.plan_time
"""

import time
from pathlib import Path
from statistics import median

from pydantic import TypeAdapter

from qwenctl.hardware.facts import Hardware
from qwenctl.model.toml import load_profiles
from qwenctl.plan.planner import Plan, plan
from qwenctl.settings.types import ContextSettings, ModelSettings, Settings

ROOT = Path(__file__).parents[1]
RUNS = 50


def main() -> None:
    """Print the median and the slowest of many runs."""
    profiles = load_profiles(ROOT / "profiles", ROOT / "nowhere")
    profile = next(profile for profile in profiles if profile.name == "qwen3.6-27b")
    read = TypeAdapter(Hardware).validate_json
    cases = [
        (path.stem, read(path.read_bytes()), Settings())
        for path in sorted((ROOT / "tests/machines").glob("*"))
    ]
    hard = Settings(
        context=ContextSettings(tokens=262144, min_tokens=256, checkpoints=32),
        model=ModelSettings(prefer="quality"),
    )
    cases.append(("m1-8gb, everything tried", read((ROOT / "tests/machines/m1-8gb.json").read_bytes()), hard))
    cases.append(("m2-16gb, 256K to 256", read((ROOT / "tests/machines/m2-16gb.json").read_bytes()), hard))
    cases.append(("2xa100, 256K", read((ROOT / "tests/machines/2xa100-80gb.json").read_bytes()), hard))
    for name, hardware, settings in cases:
        times = []
        for _ in range(RUNS):
            started = time.perf_counter()
            plan(hardware, profile, settings, siblings=profiles)
            times.append((time.perf_counter() - started) * 1000)
        outcome = plan(hardware, profile, settings, siblings=profiles)
        chosen = f"{outcome.quant} {outcome.context_tokens}" if isinstance(outcome, Plan) else "no fit"
        print(
            f"{name:26} median {median(times):6.2f} ms, slowest {max(times):6.2f} ms: "
            f"{chosen}, {len(outcome.considered)} considered"
        )


if __name__ == "__main__":
    main()
