"""Sampling presets of common families, from their model cards. Pure: data and a look-up.

A card seldom names every number; the rest are llama-server's own defaults. A family whose card could not be
confirmed is not here: its files' own keys are used, or the general preset.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from qwenctl.model.profile import PRESETS, SamplingPreset

GENERAL = SamplingPreset(
    temperature=0.8,
    top_p=0.95,
    top_k=40,
    min_p=0.05,
    presence_penalty=0.0,
    repeat_penalty=1.0,
    source="llama-server's own defaults (b11434, common/common.h)",
)


@dataclass(frozen=True, slots=True)
class Family:
    """Models of one kind: by a pattern of their names, by their architecture, or by both.

    ``instruct`` are the numbers without thinking, where the card has others for that.
    """

    numbers: Mapping[str, float]
    source: str
    names: re.Pattern[str] | None = None
    architectures: tuple[str, ...] = ()
    instruct: Mapping[str, float] | None = None


def _names(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


QWEN3_THINKING = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0}
QWEN3_INSTRUCT = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.0}
QWEN3 = ("qwen3", "qwen3moe", "qwen3next", "qwen3vl", "qwen3vlmoe")
FAMILIES = (
    Family(
        {"temperature": 0.6, "top_p": 0.95},
        "DeepSeek-R1 model card, usage recommendations: 0.5 to 0.7, 0.6 recommended",
        names=_names(r"deepseek[-_ ]?r1"),
    ),
    Family(
        {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repeat_penalty": 1.05},
        "Qwen3-Coder model card, best practices; the same on LM Studio's hub",
        names=_names(r"qwen3[-_ ]?coder"),
    ),
    Family(
        QWEN3_INSTRUCT,
        "Qwen3 model card, best practices without thinking",
        names=_names(r"instruct"),
        architectures=QWEN3,
    ),
    Family(
        QWEN3_THINKING,
        "Qwen3 model card, best practices with thinking, and without it",
        architectures=QWEN3,
        instruct=QWEN3_INSTRUCT,
    ),
    Family(
        {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repeat_penalty": 1.05},
        "generation_config.json of Qwen2.5-Coder-32B-Instruct",
        names=_names(r"qwen[-_ ]?2\.?5"),
    ),
    Family(
        {"temperature": 1.0, "top_p": 0.95, "top_k": 64, "min_p": 0.0},
        "Gemma 3: the Gemma team's numbers in Unsloth's guide; top_k and top_p in generation_config.json",
        architectures=("gemma3", "gemma3n"),
    ),
    Family(
        {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0},
        "gpt-oss: temperature and top_p 1.0, the whole vocabulary (OpenAI; Together's guide)",
        architectures=("gpt-oss",),
    ),
    Family(
        {"temperature": 0.6, "top_p": 0.95, "top_k": 40},
        "GLM-Z1-32B-0414 model card, sampling parameters",
        names=_names(r"glm[-_ ]?z1"),
    ),
    Family(
        {"temperature": 0.2, "top_p": 0.9},
        "SmolLM2 model card, the example of its instruct models",
        names=_names(r"smollm2"),
    ),
    Family(
        {"temperature": 0.6, "top_p": 0.95},
        "SmolLM3-3B model card: temperature 0.6 and top_p 0.95",
        names=_names(r"smollm3"),
        architectures=("smollm3",),
    ),
    Family(
        {"temperature": 0.15},
        "Mistral Small 3.x and Devstral model cards: a relatively low temperature, such as 0.15",
        names=_names(r"mistral[-_ ]?small", r"devstral"),
    ),
    Family(
        {"temperature": 0.6, "top_p": 0.9},
        "generation_config.json of Llama 3",
        names=_names(r"llama[-_ ]?3"),
        architectures=("llama",),
    ),
)
"""The first family that matches counts. One with both a pattern and architectures needs both."""


def presets_of(architecture: str, names: str) -> dict[str, SamplingPreset] | None:
    """Return the presets of the family, or None. ``names``: all that the model calls itself."""
    for family in FAMILIES:
        if family.architectures and architecture not in family.architectures:
            continue
        if family.names is None or family.names.search(names):
            thinking = preset(family.numbers, family.source)
            instruct = preset(family.instruct, family.source) if family.instruct else thinking
            return {name: instruct if name == "instruct" else thinking for name in PRESETS}
    return None


def preset(numbers: Mapping[str, float], source: str) -> SamplingPreset:
    """Return a preset with these numbers; the rest are llama-server's defaults."""
    return SamplingPreset.model_validate(GENERAL.model_dump() | dict(numbers) | {"source": source})


def same_for_all(one: SamplingPreset) -> dict[str, SamplingPreset]:
    """Return one preset under every preset's name."""
    return dict.fromkeys(PRESETS, one)
