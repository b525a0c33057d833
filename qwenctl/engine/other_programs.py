"""Say which program it is, where ``--help`` is not that of a llama-server we can use. Pure: no I/O."""

import re

from qwenctl.engine.flags import Known
from qwenctl.engine.usability import LIST_DEVICES, OTHER_BUILD, Unusable

NOT_A_SERVER, TOO_OLD = "not_a_server", "too_old"
OWN = f"take llama.cpp's own llama-server, up to date: set [server] binary to it; {OTHER_BUILD}"
IK_LLAMA = "it is ik_llama.cpp, too old a fork for qwenctl: it has no Unix socket and no --list-devices"
UNIFIED = "it is the llama program, of which only `llama serve` is a llama-server"
UNIFIED_HINT = (
    "set [server] binary to llama-server, or to an executable file of two lines: #!/bin/sh and "
    'exec llama serve "$@"'
)
OTHERS = (
    (re.compile(r"LLAMAFILE\(1\)|\bllamafile\b", re.IGNORECASE), "a llamafile"),
    (re.compile(r"koboldcpp", re.IGNORECASE), "KoboldCpp"),
    (re.compile(r"^Large language model runner$|^\s+ollama \[flags\]", re.MULTILINE), "Ollama"),
    (
        re.compile(r"llama_cpp[./]server|Llama\.cpp python server", re.IGNORECASE),
        "the server of llama-cpp-python",
    ),
    (re.compile(r"llama-swap|-watch-config", re.IGNORECASE), "llama-swap"),
)
"""Texts of a help, and whose they are. Source: what each program prints for ``--help``."""


def other_program(version: str, help_text: str, known: Known) -> Unusable | None:
    """Return why this is no llama-server of today; None if it may be one, as its flags say."""
    if LIST_DEVICES not in known and (
        "--run-time-repack" in known or "ik_llama" in f"{version}\n{help_text}"
    ):
        return Unusable(NOT_A_SERVER, IK_LLAMA, OWN)
    if "--model" in known and "--port" in known:
        return None
    if re.search(r"<command> \[options\]", help_text) and re.search(r"^\s+serve\s", help_text, re.MULTILINE):
        return Unusable(NOT_A_SERVER, UNIFIED, UNIFIED_HINT)
    if name := next((name for text, name in OTHERS if text.search(help_text)), None):
        return Unusable(NOT_A_SERVER, f"it is {name}, not a llama-server", OWN)
    if re.search(r"^\s*--(port|host)\b", help_text, re.MULTILINE):
        return too_old(())
    if re.search(r"--model\b", help_text):
        return Unusable(NOT_A_SERVER, "it is another program of llama.cpp, not its llama-server", OWN)
    return Unusable(NOT_A_SERVER, "its --help is not that of a llama-server", OWN)


def too_old(lacks: tuple[str, ...]) -> Unusable:
    """Return why an engine that lacks options of ours cannot be used."""
    summary = f"it is too old: it does not know {', '.join(lacks)}" if lacks else "it is too old for qwenctl"
    return Unusable(TOO_OLD, summary, "update llama.cpp: " + OTHER_BUILD)


def architecture_unknown(name: str) -> Unusable:
    """Return why an engine cannot load the model."""
    summary = f"it is too old for this model: it does not know the architecture {name!r}"
    return Unusable("architecture_unknown", summary, "update llama.cpp: " + OTHER_BUILD)
