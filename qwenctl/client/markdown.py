"""Find the code blocks in an answer. Pure: no I/O. A Markdown library parses the answer."""

from typing import NamedTuple

from markdown_it import MarkdownIt


class Block(NamedTuple):
    """One fenced code block: the text after the fence, and the code."""

    info: str
    code: str

    @property
    def language(self) -> str:
        """The first word after the fence, in lower case."""
        return (self.info.split() or [""])[0].lower()


def code_blocks(answer: str) -> list[Block]:
    """Return the fenced blocks in their order, also one without a closing fence."""
    tokens = MarkdownIt("commonmark").parse(answer)
    return [Block(token.info.strip(), token.content) for token in tokens if token.type == "fence"]


def python_code(answer: str) -> str | None:
    """Return the longest block in Python or without a language; None if there is no such block."""
    blocks = [block for block in code_blocks(answer) if block.language in ("python", "py", "python3", "")]
    return max(blocks, key=lambda block: len(block.code)).code if blocks else None
