"""What a person installs: the wheel has its data, from a wheel and from a checkout alike."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import packages_distributions
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


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_a_wheel_in_a_fresh_environment_reads_its_profiles(tmp_path: Path) -> None:
    """What it depends on comes from the environment of the tests: downloading it all anew shows nothing."""
    pip("wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT))
    (wheel,) = tmp_path.glob("qwenctl-*.whl")
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    pip("--python", str(python), "install", "--no-deps", str(wheel))
    (packages,) = (tmp_path / "venv/lib").glob("python3*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others), encoding="utf-8")
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


def pip(*arguments: str) -> None:
    quiet = ("--disable-pip-version-check", "--quiet")
    subprocess.run([sys.executable, "-m", "pip", *quiet, *arguments], check=True, timeout=300)


COMES_WITH = {"yarl": "aiohttp", "multidict": "aiohttp", "pydantic_core": "pydantic", "numpy": "gguf"}
"""What a declared package brings, because its own types are made of it."""


def test_what_is_imported_is_declared() -> None:
    """By the project or by one of its extras."""
    lists = (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    declared = {plain(re.split(r"[^\w.-]", text)[0]) for each in lists for text in each}
    owners = packages_distributions()
    imported = set()
    for path in (ROOT / "qwenctl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
            elif isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
    foreign = imported - sys.stdlib_module_names - {"qwenctl"} - set(COMES_WITH)
    assert len(foreign) > 10
    assert [
        name for name in foreign if not {plain(each) for each in owners.get(name, [name])} & declared
    ] == []


def plain(name: str) -> str:
    return name.lower().replace("_", "-")


def test_a_checkout_reads_its_profiles() -> None:
    assert load_profile("demo", paths.data_root() / "profiles", ROOT / "none").generated is True
