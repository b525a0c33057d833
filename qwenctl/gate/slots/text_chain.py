"""Compare texts without keeping them: digests of ever longer beginnings. Pure: no I/O.

Two texts agree exactly as far as their digests do, so a list of digests at fixed places tells how far two
texts begin alike, up to one block.
"""

import hashlib
from dataclasses import dataclass

BLOCK_CHARS = 256
MAX_BLOCKS = 4096
"""Blocks kept of one text: 1 MiB of characters, which is more than 262,144 tokens of code or prose hold."""
DIGEST_BYTES = 8
"""A digest of a beginning. Texts are compared by several of them, each of which covers all before it."""


@dataclass(frozen=True, slots=True)
class TextMark:
    """A text that was seen, as length and digest."""

    chars: int
    digest: str


@dataclass(frozen=True, slots=True)
class TextChain:
    """The digests of a text: of its first block, its first two blocks, and so on; and of the whole of it."""

    chars: int = 0
    digest: str = ""
    blocks: tuple[str, ...] = ()

    @property
    def end(self) -> TextMark:
        """The whole text."""
        return TextMark(self.chars, self.digest)


NO_TEXT = TextChain()


class ChainBuilder:
    """Makes the chain of a text that comes in parts. Each part is read once."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._chars = 0
        self._blocks: list[str] = []

    def add(self, text: str) -> None:
        """Take the next part of the text."""
        at, data = 0, text
        while at < len(data):
            until = min(at + BLOCK_CHARS - self._chars % BLOCK_CHARS, len(data))
            self._hash.update(data[at:until].encode("utf-8", "surrogatepass"))
            self._chars += until - at
            at = until
            if self._chars % BLOCK_CHARS == 0 and len(self._blocks) < MAX_BLOCKS:
                self._blocks.append(self._hash.hexdigest())

    def mark(self) -> TextMark:
        """Return the text so far."""
        return TextMark(self._chars, self._hash.hexdigest())

    def chain(self) -> TextChain:
        """Return the chain of the text so far."""
        return TextChain(self._chars, self._hash.hexdigest(), tuple(self._blocks))


def chain_of(text: str) -> TextChain:
    """Return the chain of a text."""
    builder = ChainBuilder()
    builder.add(text)
    return builder.chain()


def agreed_blocks(one: TextChain, other: TextChain) -> int:
    """Return how many blocks two texts have in common at their beginning.

    A digest covers all blocks before it, so the place where two lists part is found by halving.
    """
    low, high = 0, min(len(one.blocks), len(other.blocks))
    while low < high:
        middle = (low + high + 1) // 2
        if one.blocks[middle - 1] == other.blocks[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low


def agreed_chars(one: TextChain, other: TextChain) -> int:
    """Return how many characters two texts have in common at their beginning, up to one block too few."""
    return one.chars if one.end == other.end else agreed_blocks(one, other) * BLOCK_CHARS
