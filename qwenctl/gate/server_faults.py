"""Tell from an answer whether the server can still compute. Pure: no I/O, no clock.

A server whose device is lost goes on running, and answers every request with an error of status 500. An
error that is the request's own fault says nothing about the server. The text of an error may quote its
request, so only the start of a text counts, and only in forms that have no words of a client in them. A text
alone ends no server: the server is asked for a token first.
"""

import json
import re
from dataclasses import dataclass
from enum import Enum, auto

FAULTS_IN_A_ROW = 2
"""So many faults without a good answer between them, and the server is asked for a token."""
LOOK_AGAIN_S = 5.0
"""A server that has just generated a token is not asked again for so long."""
MAX_TEXT = 200
"""Characters of a fault's text that are kept."""

COMPUTING_PATHS = frozenset(
    """
    /completion /completions /v1/completions /chat/completions /v1/chat/completions /v1/messages
    /responses /v1/responses /infill /embedding /embeddings /v1/embeddings
    /rerank /reranking /v1/rerank /v1/reranking /audio/transcriptions /v1/audio/transcriptions /v1/systemone
    """.split()
)
"""Requests for these paths make the server compute. Source: llama-server b11434, tools/server/server.cpp."""

DEVICE_ERROR = re.compile(
    r"(?:vk::[A-Za-z:]+: Error[A-Z]\w+$"
    r"|ggml_vulkan: \w+: Error[A-Z]\w+$"
    r"|(?:CUDA|ROCm|MUSA|SYCL|HIP|OpenCL|Metal) error\b"
    r"|(?:level_zero|opencl|cuda|hip) backend failed with error: "
    r"|Native API (?:failed|returns)"
    r"|ggml[-_]hex: )"
)
"""How the text of an exception of ggml or of a driver begins.

Source: llama.cpp b11434, ggml/src and src/llama-context.cpp; vulkan.hpp (``vk::Queue::submit:
ErrorDeviceLost``); intel/llvm, sycl/source (``level_zero backend failed with error``, ``Native API failed``).
"""
OWN_FAULTS = ("Context size has been exceeded", "Invalid input batch", "unsupported batch")
"""What ``decode() failed: `` may be followed by without any fault of the device."""
STEP = re.compile(r"(?:(?:pre_|post_)?decode\(\) failed|got exception): ")
MEMORY_ERROR = re.compile(r"std::bad_alloc$|failed to (?:allocate|reserve|initialize) ")
"""How the text of a step goes on where it got no memory. A bare text like that may be a request's fault."""
COMPUTE_ERROR = re.compile(r"Compute error\.?$|failed to process (?:speculative batch|mtmd chunk)$")
"""What the server says where a step of the model failed. Source: llama-server b11434, server-context.cpp."""


class AnswerKind(Enum):
    """What an answer says about the server: GOOD, it computed; FAULT, it could not; OTHER, nothing."""

    GOOD = auto()
    FAULT = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Heard:
    """What one answer says about the server. ``text`` is the text of a fault."""

    kind: AnswerKind
    text: str = ""


OTHER, GOOD = Heard(AnswerKind.OTHER), Heard(AnswerKind.GOOD)
BROKEN = Heard(AnswerKind.FAULT, "it breaks off its answers")
"""The connection broke before the answer was whole, or what came was no answer."""


def computes(method: str, path: str) -> bool:
    """Return whether a request makes the server compute. Only such requests say how it is."""
    return method == "POST" and path in COMPUTING_PATHS


def heard_whole(status: int, content_type: str, body: bytes) -> Heard:
    """Return what a whole answer to a computing request says."""
    if status == 200:
        whole = content_type != "application/json" or body.strip()[:1] + body.strip()[-1:] in (b"{}", b"[]")
        return GOOD if whole else BROKEN
    if status != 500:
        return OTHER
    try:
        content = json.loads(body)
    except ValueError:
        content = body.decode("utf-8", "replace")  # an exception that nothing caught is sent as it is
    return _of_error(content.get("error") if isinstance(content, dict) else content)


def heard_events(events: bytes) -> Heard:
    """Return what the last error among the events of a stream says; GOOD if there is none."""
    heard, named = GOOD, False
    for line in events.splitlines():
        if line.startswith(b"event:"):
            named = line[6:].strip() == b"error"
        elif line.startswith(b"data:") and (named or b'"error"' in line):
            try:
                content = json.loads(line[5:])
            except ValueError:
                continue
            error = content.get("error", content if named else None) if isinstance(content, dict) else None
            heard = _of_error(error) if error is not None else heard
    return heard


def device_fault(message: str) -> bool:
    """Return whether the text of an error says that the server could not compute."""
    if COMPUTE_ERROR.match(message):
        return True
    step = STEP.match(message)
    rest = message[step.end() :] if step is not None else message
    if step is not None and step[0].startswith("decode()"):
        return not rest.startswith(OWN_FAULTS)  # this step sees tokens only, no text of a client
    if step is not None and (COMPUTE_ERROR.match(rest) or MEMORY_ERROR.match(rest)):
        return True
    return DEVICE_ERROR.match(rest) is not None


def _of_error(error: object) -> Heard:
    """Return what the error in an answer says: a table with code and message, or a bare text."""
    if isinstance(error, dict):
        if error.get("code", 500) != 500:
            return OTHER
        error = error.get("message")
    if isinstance(error, str) and device_fault(error):
        return Heard(AnswerKind.FAULT, error[:MAX_TEXT])
    return OTHER


@dataclass(frozen=True, slots=True)
class FaultRow:
    """The faults of one child since it computed last. ``looked_at``: when it was asked for a token last."""

    child: int = 0
    count: int = 0
    looked_at: float | None = None

    def after(self, child: int, heard: Heard) -> "FaultRow":
        """Return the row after one more answer. A late answer of an earlier child is nothing."""
        if child < self.child or heard.kind is AnswerKind.OTHER:
            return self
        if heard.kind is AnswerKind.GOOD:
            return FaultRow(child, 0, self.looked_at if child == self.child else None)
        if child != self.child:
            return FaultRow(child, 1)
        return FaultRow(child, self.count + 1, self.looked_at)

    def looked(self, now: float) -> "FaultRow":
        """Return the row after the child was asked for a token."""
        return FaultRow(self.child, 0, now)

    def suspicious(self, child: int, now: float) -> bool:
        """Return whether this child is to be asked for a token now."""
        if child != self.child or self.count < FAULTS_IN_A_ROW:
            return False
        return self.looked_at is None or now - self.looked_at >= LOOK_AGAIN_S
