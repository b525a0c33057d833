"""Know a conversation by its requests: digests of the tools, the system text and the messages. Pure: no I/O.

The parts are compared one by one, because clients change one and keep the others: the day's date stands in
the system text, the tools are those of yesterday. What a client moves about without a meaning for the prompt
is left out (``cache_control``, ids).
"""

import json
import re
from dataclasses import dataclass, field, replace
from itertools import islice

from qwenctl.gate.slots.text_chain import (
    BLOCK_CHARS,
    NO_TEXT,
    ChainBuilder,
    TextChain,
    TextMark,
    agreed_blocks,
    chain_of,
)

MAX_BODY_BYTES = 4_194_304
"""A longer body is not read: it would hold up all other requests for more than 50 ms."""
KEPT_ENDS = 256
"""Ends of messages kept of one request. A conversation is continued within its last few messages."""
PROBE_CHARS = 160
CHAT_PATHS = frozenset("/v1/chat/completions /chat/completions /v1/messages /responses /v1/responses".split())
PROMPT_PATHS = frozenset("/completion /completions /v1/completions".split())
UNPINNABLE_PATHS = frozenset({"/v1/messages"})
"""Here llama-server drops a request's ``id_slot``. Source: b11434 and b11549, measured."""
LEFT_OUT = frozenset({"cache_control", "id", "status"})
VOLATILE = (
    re.compile(r"20\d\d-[01]\d-[0-3]\d"),  # a date
    re.compile(r":\d\d:\d\d"),  # a time
    *(re.compile(rf"/{name}/\w") for name in ("home", "Users", "root", "tmp", "workspace", "private", "mnt")),
    re.compile(r"-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),  # the name of a session
    re.compile("cc_version="),
)
"""What is likely to be another in the next session. Each begins with letters that are found quickly."""
SURELY_OTHER = "cc_version"
"""A word that follows from the first message. Source: Claude Code 2.1.197, seen."""
WORD = re.compile(r"[\w/.:-]{1,48}")
"""So much of a word shows which one it is."""
MAX_PLACES = 64
"""Places kept of one pattern in one text."""
BILLING = re.compile(r"\A(x-anthropic-billing-header:.*?cch=)[^;]{5};", re.DOTALL)
"""A count that Claude Code puts first, and which llama-server replaces. Source: b11434, server-chat.cpp."""


@dataclass(frozen=True, slots=True)
class RequestDigests:
    """What is kept of a request. ``ends``: the messages so far after each of the last ones."""

    tools: TextChain = NO_TEXT
    system: TextChain = NO_TEXT
    messages: TextChain = NO_TEXT
    ends: tuple[TextMark, ...] = ()


@dataclass(frozen=True, slots=True)
class SharedDepth:
    """How far a request must agree with others that begin alike, in blocks of each part."""

    tools: int = 0
    system: int = 0
    messages: int = 0


@dataclass(frozen=True, slots=True)
class StableDepths:
    """How far another session is likely to begin like a request, from the safest guess to the boldest.

    ``first``: up to the first volatile word of each part. ``before``: the tools, and the system text up to
    each of its volatile ``words``. ``whole``: the tools and the system text.
    """

    first: SharedDepth = SharedDepth()
    before: tuple[SharedDepth, ...] = ()
    words: tuple[str, ...] = ()
    whole: SharedDepth = SharedDepth()


NOTHING_STABLE = StableDepths()


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request in hand. ``probe`` and ``first``: the ends of its last message and the start of its first.

    They show which slot holds it. ``stable``: how far another session is likely to begin like this one.
    Neither is ever written. ``pinnable``: the server heeds ``id_slot``. ``pinned``: the client wants a slot
    of its own choice, or none of what is cached.
    """

    digests: RequestDigests
    stable: StableDepths
    probe: str = ""
    first: str = ""
    prompt: str | None = field(default=None, repr=False)
    pinnable: bool = True
    pinned: bool = False


def parse_request(path: str, body: bytes | bytearray) -> ParsedRequest | None:
    """Return the digests of a request; None where it has no conversation that can be known again."""
    if path not in CHAT_PATHS | PROMPT_PATHS or len(body) > MAX_BODY_BYTES:
        return None
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    if path in PROMPT_PATHS:
        return _of_prompt(content)
    return _of_chat(content, pinnable=path not in UNPINNABLE_PATHS)


def continues_request(asked: ParsedRequest, earlier: RequestDigests) -> bool:
    """Return whether a request goes on with the conversation of an earlier one, from its last message on."""
    new, end = asked.digests, earlier.messages.end
    if new.tools.end != earlier.tools.end or new.system.end != earlier.system.end or not end.chars:
        return False
    if end in new.ends:
        return True
    if asked.prompt is None or end.chars > new.messages.chars:
        return False
    if agreed_blocks(new.messages, earlier.messages) < len(earlier.messages.blocks):
        return False
    return chain_of(asked.prompt[: end.chars]).end == end


def is_longer(asked: ParsedRequest, earlier: RequestDigests) -> bool:
    """Return whether a request that continues an earlier one has anything new."""
    return asked.digests.messages.chars > earlier.messages.chars


def shared_depth(one: RequestDigests, other: RequestDigests) -> SharedDepth:
    """Return how far two requests agree. Templates put the messages last: they count if all before agrees."""
    tools, system = agreed_blocks(one.tools, other.tools), agreed_blocks(one.system, other.system)
    if one.tools.end != other.tools.end or one.system.end != other.system.end:
        return SharedDepth(tools, system)
    return SharedDepth(tools, system, agreed_blocks(one.messages, other.messages))


def reaches(asked: RequestDigests, origin: RequestDigests, depth: SharedDepth) -> bool:
    """Return whether a request agrees with ``origin`` at least as far as ``depth``."""
    here = shared_depth(asked, origin)
    return here.tools >= depth.tools and here.system >= depth.system and here.messages >= depth.messages


def stable_chars(text: str) -> int:
    """Return how far a text is likely to be that of the next session: to before its first volatile word."""
    return next((at for at, _ in volatile_places(text)), len(text))


def volatile_places(text: str) -> list[tuple[int, str]]:
    """Return where words stand that are likely to be others in the next session, and the words."""
    return sorted(
        (found.start(), word.group() if (word := WORD.match(text, found.start())) else "")
        for pattern in VOLATILE
        for found in islice(pattern.finditer(text), MAX_PLACES)
    )


def _of_prompt(content: dict[str, object]) -> ParsedRequest | None:
    prompt = content.get("prompt")
    if isinstance(prompt, str):
        text: str = prompt
        probe = prompt[-PROBE_CHARS:].strip()
    elif isinstance(prompt, list) and prompt and all(isinstance(each, int) for each in prompt):
        text, probe = "".join(f"{token}," for token in prompt), ""
    else:
        return None  # several prompts in one request take several slots
    chain = chain_of(text)
    digests = RequestDigests(messages=chain, ends=(chain.end,))
    return ParsedRequest(digests, NOTHING_STABLE, probe, "", text, pinned=_is_pinned(content))


def _of_chat(content: dict[str, object], *, pinnable: bool) -> ParsedRequest | None:
    messages = content.get("messages", content.get("input"))
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list) or not messages:
        return None
    tools = "".join(_plain(tool) for tool in _listed(content.get("tools")))
    system = [_text(content.get("system", content.get("instructions")))]
    rest = list(messages)
    while rest and isinstance(rest[0], dict) and rest[0].get("role") in ("system", "developer"):
        system.append(_text(rest.pop(0).get("content")))
    told = BILLING.sub(r"\1;", "".join(system))
    builder, ends = ChainBuilder(), []
    for message in rest:
        builder.add(_message(message))
        ends.append(builder.mark())
    parts = RequestDigests(chain_of(tools), chain_of(told), builder.chain(), tuple(ends[-KEPT_ENDS:]))
    whole = SharedDepth(len(parts.tools.blocks), len(parts.system.blocks))
    places = volatile_places(told)
    before = tuple(replace(whole, system=min(at // BLOCK_CHARS, whole.system)) for at, _ in places)
    until = min(stable_chars(tools) // BLOCK_CHARS, whole.tools)
    safest = replace(before[0] if before else whole, tools=until)
    stable = StableDepths(safest, before, tuple(word for _, word in places), whole)
    texts = [text for text in map(_own_text, rest) if text]
    probe = texts[-1][-PROBE_CHARS:].strip() if texts else ""
    first = texts[0][:PROBE_CHARS].strip() if texts else ""
    return ParsedRequest(parts, stable, probe, first, None, pinnable, _is_pinned(content))


def _is_pinned(content: dict[str, object]) -> bool:
    """Return whether the client chose a slot itself, or wants nothing from the cache."""
    return "id_slot" in content or content.get("cache_prompt") is False


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _text(content: object) -> str:
    """Return the text of a content: a string, or parts of which some are texts."""
    if isinstance(content, str):
        return content
    return "".join(
        part["text"] if isinstance(part, dict) and isinstance(part.get("text"), str) else _plain(part)
        for part in _listed(content)
    )


def _own_text(message: object) -> str:
    """Return the last text of a message that its template is likely to show word for word."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content
    texts = [
        part["text"]
        for part in _listed(content)
        if isinstance(part, dict) and isinstance(part.get("text"), str)
    ]
    return texts[-1] if texts else ""


def _message(message: object) -> str:
    if not isinstance(message, dict):
        return _plain(message)
    others = {name: value for name, value in message.items() if name not in ("role", "content", "type")}
    head = f"\x1e{message.get('role', message.get('type', ''))}\x1f"
    return f"{head}{_text(message.get('content'))}\x1f{_plain(others) if others else ''}"


def _plain(value: object) -> str:
    return json.dumps(_without(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _without(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without(each) for name, each in value.items() if name not in LEFT_OUT}
    return [_without(each) for each in value] if isinstance(value, list) else value
