"""Take out of a text what must not leave the machine: keys, tokens, prompts, the user's name. Pure: no I/O.

What is not understood stays: a bundle is listed and can be read before it is sent.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

GONE = "[redacted]"
SHORTEST_SECRET = 4
NAMED = re.compile(
    r"""(?ix) (["']? [\w-]* (?:api[_-]?key | secret | passw(?:or)?d | authorization | (?:access|hf)[_-]?token)
    ["']? \s* [=:,\ ] \s* ["']?) (?!file|path|none|null|true|false) ((?:bearer\s+)?[^\s"',;}\]]+)"""
)
TOKENS = re.compile(r"\b(?:hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{8,}|Bearer\s+[^\s\"',;]+)", re.IGNORECASE)
URL_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
SAID = re.compile(r"""["'](?:messages|prompt|content|input|system|text|suffix|tools|arguments)["']\s*:""")


@dataclass(frozen=True, slots=True)
class Private:
    """What is private here: secrets by their text, the user's name and home."""

    secrets: tuple[str, ...]
    user: str
    home: str


def redact(text: str, private: Private) -> str:
    """Return the text without what is private."""
    lines = (_line(line) for line in text.splitlines())
    cleaned = "\n".join(lines)
    for secret in sorted(private.secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            cleaned = cleaned.replace(secret, GONE)
    if private.home not in ("", "/", "/root"):
        cleaned = cleaned.replace(private.home, "~")
    cleaned = re.sub(r"(/(?:home|Users)/)[^/\s\"']+", r"\1USER", cleaned)
    if len(private.user) >= SHORTEST_SECRET - 1 and private.user not in ("root", "qwenctl"):
        cleaned = re.sub(rf"\b{re.escape(private.user)}\b", "USER", cleaned)
    return cleaned


def found(text: str, private: Private) -> Iterable[str]:
    """Return the secrets that a text still holds."""
    return tuple(secret for secret in private.secrets if len(secret) >= SHORTEST_SECRET and secret in text)


def _line(line: str) -> str:
    said = SAID.search(line)
    if said:  # the rest of the line may be what a person wrote
        line = f"{line[: said.end()]} {GONE}"
    line = NAMED.sub(rf"\1{GONE}", line)
    return URL_LOGIN.sub(f"{GONE}@", TOKENS.sub(GONE, line))
