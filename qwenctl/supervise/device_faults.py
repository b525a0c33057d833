"""Say why a server that runs, and answers every request with an error, was ended. Pure: no I/O.

Such a server says in its log what happened to the device, often long before the errors of its answers.
"""

import re
from dataclasses import replace

from qwenctl.supervise.crash_texts import ABORT, LOST_HINT
from qwenctl.supervise.evidence import UNKNOWN, ExitContext, evidence
from qwenctl.supervise.exits import GPU_LOST, OTHER_FAULT, OUT_OF_MEMORY, Ending, sign_of

DEVICE_CAUSES = frozenset((GPU_LOST, *OUT_OF_MEMORY))
"""What makes a server that runs unable to compute."""
LOGGED = ("0.00.000.000 E srv  update_slots: {}", "  what():  {}")
"""How a server logs such an error, and the exception in it, if it goes on and if it ends.

So the texts of a log are looked for in an answer, too. Source: llama-server b11434, captured.
"""


def cannot_compute(
    fault: str, tail: tuple[str, ...], devices: tuple[str, ...], context: ExitContext = UNKNOWN
) -> Ending:
    """Return the ending of a server whose answers say ``fault``. ``devices``: what it computes on.

    The answer names the cause where it can, else the log, as if the server had ended by itself just now.
    ``context`` is what the log shows so far.
    """
    quoted = f'its answers say "{fault}"'
    thrown = fault.rpartition(" failed: ")[2]
    answers = (LOGGED[0].format(fault), LOGGED[1].format(thrown))
    loading = replace(context, serving=False)  # all of its complaints count, not only the last
    for lines, seen in (
        (answers, replace(UNKNOWN, serving=False, platform=context.platform)),
        (tail, loading),
    ):
        found = sign_of(evidence(lines, seen), ABORT, seen.devices, seen.platform)
        if found is not None and found.cause in DEVICE_CAUSES:
            summary = f"{found.summary}; {quoted}"
            return replace(found, summary=summary, permanent=False, log_tail=tail)
    if devices:
        return Ending(GPU_LOST, f"it computes no more: {quoted}", hint=LOST_HINT, log_tail=tail)
    return Ending("crashed", f"it computes no more: {quoted}", hint=OTHER_FAULT, log_tail=tail)


REFUSED = re.compile(r'\S+ answered 500: .*"message": ?"((?:Compute error|decode\(\) failed: )[^"]*)"')
"""What a server says to the request for a token, if it loaded and cannot compute.

Source: ggml-org/llama.cpp 27309: memory ran out in the first computation, and the server took requests.
"""


def refused_to_compute(refusal: str | None) -> str | None:
    """Return the error of a server that was asked for a token and could not compute it. Else None."""
    found = REFUSED.match(refusal or "")
    return found[1] if found else None
