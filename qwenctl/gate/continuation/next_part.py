"""Decide what the next server is asked, so that it finishes an answer that has begun. Pure: no I/O."""

import json
from dataclasses import dataclass
from typing import Any

from qwenctl.gate.continuation.eligibility import cannot_continue
from qwenctl.gate.continuation.seam import Seam
from qwenctl.gate.continuation.sent_answer import SentText
from qwenctl.gate.continuation.splice import StreamFormat, with_rest

RAW_REASONING = ("<think>", "</think>", "<|channel|>")
"""Texts that say that reasoning stands in the answer itself. Source: templates of Qwen, GPT-OSS."""
FEWEST_TOKENS_A_PIECE = 0.5
"""A server that counts fewer tokens for a text than half of its pieces has not read that text."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """What a server counts: the client's request, the longer one, and the pieces of text, each by itself.

    ``joined``: the same text as one; 0 if the answer has no two parts. ``pieces`` 0: not counted.
    """

    asked: int
    longer: int
    pieces: int = 0
    joined: int = 0


@dataclass(frozen=True, slots=True)
class NextPart:
    """What the next server is asked, and how its part joins what the client has."""

    body: bytes
    seam: Seam


def read_request(body: bytes | bytearray) -> dict[str, Any] | None:
    """Return the request in a body; None if it is no JSON table."""
    try:
        asked = json.loads(body)
    except ValueError:
        return None
    return asked if isinstance(asked, dict) else None


def why_not(form: StreamFormat, asked: dict[str, Any], sent: SentText) -> str | None:
    """Return why this answer can't be continued; None if it can."""
    if sent.other:
        return "part of it is no text"
    if sent.ended:
        return "only its last event is missing"
    if any(mark in each for each in sent.content for mark in RAW_REASONING):
        return "the reasoning is not told from the answer"
    return cannot_continue(form.kind, asked)


def longer_request(form: StreamFormat, asked: dict[str, Any], sent: SentText) -> dict[str, Any]:
    """Return the request with the text so far as the beginning of its answer."""
    content, reasoning = "".join(sent.content), "".join(sent.reasoning)
    return form.go_on(asked, content, reasoning) if content or reasoning else asked


def counted_tokens(counts: TokenCounts, pieces: int) -> int:
    """Return how many tokens the text so far was.

    A text as one may be cut into other tokens than those in which it came, mostly fewer. Each piece is a
    whole number of tokens, mostly one, so the pieces counted one by one are right; some tokenizers count a
    blank too many for each of them, and are not believed. What ends the reasoning is no text.
    """
    if not pieces:
        return 0
    at_least = max(counts.longer - counts.asked, pieces)
    marks = max(counts.longer - counts.asked - counts.joined, 0) if counts.joined else 0
    one_by_one = counts.pieces + marks
    return one_by_one if at_least <= one_by_one <= 1.1 * at_least + 2 else at_least


def next_part(
    form: StreamFormat,
    asked: dict[str, Any],
    sent: SentText,
    counts: TokenCounts | None,
    answer_ms: float,
) -> NextPart | None:
    """Return what the next server is asked. None: it does not take the text so far.

    ``counts`` is None if the server does not count.
    """
    if counts is not None and counts.longer - counts.asked < FEWEST_TOKENS_A_PIECE * sent.pieces:
        return None
    prompt_tokens, tokens = None, sent.pieces
    if sent.tokens:
        prompt_tokens, tokens = sent.prompt_tokens, sent.tokens
    elif counts is not None:
        prompt_tokens, tokens = counts.asked, counted_tokens(counts, sent.pieces)
    body, used_up = with_rest(form, asked, longer_request(form, asked, sent), tokens)
    seam = Seam(
        "".join(sent.content),
        "".join(sent.reasoning),
        dict(sent.names),
        {key: list(block) for key, block in sent.blocks.items()},
        role=sent.role,
        answer_tokens=tokens,
        answer_ms=sent.answer_ms or answer_ms,
        prompt_ms=sent.prompt_ms,
        prompt_tokens=prompt_tokens,
        mute=used_up and bool(sent.pieces),
        echo_expected=form.echoes,
    )
    return NextPart(json.dumps(body).encode(), seam)
