"""What every llama.cpp program that we start finds in its environment."""

import os
from collections.abc import Mapping


def environment() -> dict[str, str]:
    """Return ours, cleaned."""
    return cleaned(os.environ)


def cleaned(given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without variables that would change the server unnoticed, or tell it a secret.

    ``GGML_NO_BACKTRACE`` keeps a crashing server from starting a debugger on itself, which takes seconds.
    Source: ggml/src/ggml.c, ggml_print_backtrace.
    """
    kept = {
        name: value
        for name, value in given.items()
        if not name.startswith(("LLAMA_", "QWENCTL_")) and name not in ("HF_TOKEN", "NOTIFY_SOCKET")
    }
    return kept | {"GGML_NO_BACKTRACE": "1"}
