"""What an engine was seen to do with restored slots. Pure: no I/O.

Builds differ in what a slot's file holds, and their numbers don't tell. So each restore is a promise of so
many tokens, and the first answer after it shows how many were really taken from the cache.
"""

import json
import re
from dataclasses import dataclass, replace
from enum import StrEnum

KEPT_SHARE = 0.9
"""A promise is kept if so much of it came from the cache. The end of a prompt is always read anew."""
CACHED = re.compile(rb'"(?:cached_tokens|cache_n|cache_read_input_tokens)"\s*:\s*(\d+)')
"""Source: answers of llama-server b11434 and b11549 over all its APIs, with and without a stream."""
PROMPT_SPEED = re.compile(rb'"prompt_n"\s*:\s*(\d+)\s*,\s*"prompt_ms"\s*:\s*([\d.]+)')
EDGE_BYTES = 8192
"""So much of an answer's beginning and end is looked at. Anthropic streams say it first, all others last."""
MEASURED_TOKENS = 256
"""Fewer tokens say nothing about the speed of a prompt."""


class SaveWay(StrEnum):
    """How a slot was saved: with its last answer, rolled back to before it, or a beginning that is shared."""

    AS_IT_IS = "as_it_is"
    WORD_FOR_WORD = "word_for_word"
    ROLLED_BACK = "rolled_back"
    BEGINNING = "beginning"


@dataclass(frozen=True, slots=True)
class RestoreRecord:
    """What one engine did with one model. ``hits`` and ``misses`` count promises, by way.

    ``goes_back``: in a restored slot it can go back to before the last answer (None: not tried yet).
    ``cuts``: it can go back to any place, as a model without recurrent layers can.
    """

    goes_back: bool | None = None
    cuts: bool = False
    hits: tuple[SaveWay, ...] = ()
    misses: tuple[SaveWay, ...] = ()

    def takes(self, way: SaveWay) -> bool:
        """Return whether a way is still taken: one that has missed is not, unless it was kept more often."""
        missed = self.misses.count(way)
        return missed == 0 or self.hits.count(way) > missed

    def tried(self, *, goes_back: bool, cuts: bool) -> "RestoreRecord":
        """Return the record after a trial."""
        return replace(self, goes_back=goes_back, cuts=cuts)

    def judged(self, way: SaveWay, promised: int, cached: int) -> "RestoreRecord":
        """Return the record after an answer for which ``promised`` tokens were restored."""
        if cached >= KEPT_SHARE * promised:
            return replace(self, hits=(*self.hits, way)[-64:])
        seen = replace(self, misses=(*self.misses, way)[-64:])
        return replace(seen, goes_back=False) if way is SaveWay.AS_IT_IS else seen


def cached_tokens(answer: bytes) -> int | None:
    """Return how many tokens of its prompt an answer took from the cache; None if it does not say.

    Text that a model wrote may look the same, but stands in a string, where quotes are escaped.
    """
    found = CACHED.findall(answer)
    return int(found[-1]) if found else None


def prompt_speed(answer: bytes) -> float | None:
    """Return the tokens a second at which the prompt of an answer was read, if it says so."""
    found = PROMPT_SPEED.search(answer)
    if found is None or int(found[1]) < MEASURED_TOKENS or float(found[2]) <= 0:
        return None
    return int(found[1]) / float(found[2]) * 1000


def speed_of(answer: object) -> float | None:
    """Return the same from an answer that is parsed already."""
    return prompt_speed(json.dumps(answer, separators=(",", ":")).encode())


class AnswerEdges:
    """The beginning and the end of an answer, whatever its length."""

    __slots__ = ("_first", "_last")

    def __init__(self) -> None:
        self._first = self._last = b""

    def add(self, data: bytes) -> None:
        """Take the next part of the answer."""
        if len(self._first) < EDGE_BYTES:
            self._first += data[:EDGE_BYTES]
        self._last = (self._last + data)[-EDGE_BYTES:]

    def read(self) -> bytes:
        """Return what was kept."""
        return self._first + self._last
