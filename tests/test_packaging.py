"""What a person installs: the wheel has its data, from a wheel and from a checkout alike."""

import os
import subprocess
import sys
import venv
from pathlib import Path

from qwenctl import paths
from qwenctl.model.toml import load_profile

ROOT = Path(__file__).parents[1]
READ = """
import qwenctl
from qwenctl import paths
from qwenctl.model.toml import load_profile
print(qwenctl.__file__)
print(load_profile("qwen3.6-27b", paths.data_root() / "profiles", paths.config_dir()).title)
print(*sorted(path.name for path in paths.data_root().iterdir()))
"""


def pip(python: Path | str, *arguments: str) -> None:
    subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments], check=True, timeout=300
    )


def test_a_wheel_in_a_fresh_environment_reads_its_profiles(tmp_path: Path) -> None:
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT))
    (wheel,) = tmp_path.glob("qwenctl-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    pip(python, "install", str(wheel))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", READ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    where, title, folders = done.stdout.splitlines()
    assert Path(where).with_name("py.typed").is_file()
    assert where.startswith(str(tmp_path / "venv"))
    assert title == "Qwen3.6 27B"
    assert folders == "launchd profiles systemd"
    ran = subprocess.run(
        [tmp_path / "venv/bin/qwenctl", "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.startswith("qwenctl, version ")


def test_a_checkout_reads_its_profiles() -> None:
    assert load_profile("demo", paths.data_root() / "profiles", ROOT / "none").generated is True
