"""Remove keys, tokens, prompts and the user's name from a text. Pure: no I/O.

It cannot find every secret. So a bundle is listed, and a person can read it before sending it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

REPLACEMENT = "[redacted]"
SHORTEST_SECRET = 4
NAMED_SECRET = re.compile(
    r"""(?ix) (["']? [\w-]* (?:api[_-]?key | secret | passw(?:or)?d | authorization | (?:access|hf)[_-]?token)
    ["']? \s* [=:,\ ] \s* ["']?) (?!file|path|none|null|true|false) ((?:bearer\s+)?[^\s"',;}\]]+)"""
)
TOKENS = re.compile(r"\b(?:hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{8,}|Bearer\s+[^\s\"',;]+)", re.IGNORECASE)
URL_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
PROMPT_FIELD = re.compile(
    r"""["'](?:messages|prompt|content|input|text|suffix|tools|arguments)["']\s*:|["']system["']\s*:(?!\s*\{)"""
)
"""A field of a request. A system prompt is a text or a list; in hardware.json the system is an object."""


@dataclass(frozen=True, slots=True)
class Private:
    """The private texts of this machine: secrets, the user's name, the home folder."""

    secrets: tuple[str, ...]
    user: str
    home: str


def redact(text: str, private: Private) -> str:
    """Return the text without its private parts."""
    lines = (_line(line) for line in text.splitlines())
    cleaned = "\n".join(lines)
    for secret in sorted(private.secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            cleaned = cleaned.replace(secret, REPLACEMENT)
    if private.home not in ("", "/", "/root"):
        cleaned = cleaned.replace(private.home, "~")
    cleaned = re.sub(r"(/(?:home|Users)/)[^/\s\"']+", r"\1USER", cleaned)
    if len(private.user) >= SHORTEST_SECRET - 1 and private.user not in ("root", "qwenctl"):
        cleaned = re.sub(rf"\b{re.escape(private.user)}\b", "USER", cleaned)
    return cleaned


def secrets_in(text: str, private: Private) -> Iterable[str]:
    """Return the secrets that a text still contains."""
    return tuple(secret for secret in private.secrets if len(secret) >= SHORTEST_SECRET and secret in text)


def _line(line: str) -> str:
    match = PROMPT_FIELD.search(line)
    if match:  # the rest of the line may be what a person wrote
        line = f"{line[: match.end()]} {REPLACEMENT}"
    line = NAMED_SECRET.sub(rf"\1{REPLACEMENT}", line)
    return URL_LOGIN.sub(f"{REPLACEMENT}@", TOKENS.sub(REPLACEMENT, line))
