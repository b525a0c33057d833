"""Find the code in an answer. Pure: no I/O. A Markdown library parses: fences in strings come out right."""

from typing import NamedTuple

from markdown_it import MarkdownIt


class Block(NamedTuple):
    """One fenced block: the words after the fence, and the code."""

    info: str
    code: str

    @property
    def language(self) -> str:
        """The first word after the fence, in lower case."""
        return (self.info.split() or [""])[0].lower()


def code_blocks(answer: str) -> list[Block]:
    """Return the fenced blocks in their order. A block that was cut off (no closing fence) counts too."""
    tokens = MarkdownIt("commonmark").parse(answer)
    return [Block(token.info.strip(), token.content) for token in tokens if token.type == "fence"]


def python_code(answer: str) -> str | None:
    """Return the Python of an answer: its longest block in Python, or in no language; None if it has none."""
    blocks = [block for block in code_blocks(answer) if block.language in ("python", "py", "python3", "")]
    return max(blocks, key=lambda block: len(block.code)).code if blocks else None
