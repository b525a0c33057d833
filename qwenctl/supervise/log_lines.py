"""Split a server's log into its own lines, and say where a client's text may stand. Pure: no I/O.

A client can put any text into the log: most builds print a request's grammar, tool types or body back. So a
text counts as the server's only where no client can write:

- at the start of a line, after the prefixes;
- before the first line that lets a client's text follow on lines of its own (``opens_echo``);
- once the server takes requests, in the last block of the log only: what the server printed after its last
  ordinary line (``last_block``). A server that went on has survived whatever it complained about before.

Source of the forms: llama-server b11434 (common/log.cpp, tools/server, src/llama-grammar.cpp), builds since
b3500, ik_llama.cpp, and what journald, docker and ollama put before a line.
"""

import json
import re
from dataclasses import dataclass

LONGEST = 65536
"""Characters of one line that are read as JSON at most."""

_COLOR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_OUTER = re.compile(
    r"\S+ +\d{1,2} \d\d:\d\d:\d\d \S+ [^\s:]+: "  # journald, syslog: Jan 01 00:00:00 host unit[1]:
    r"|\d{4}-\d\d-\d\dT[\d:.,+-]+ \S+ [^\s:\[]+(?:\[\d+\])?: "  # journald's short-iso
    r"|\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?,? "
    r"|(?:stdout|stderr) [FP] "  # a container's log
    r"|(?:\d+\|)?[\w.-]+ +\| "  # docker compose: name  |, pm2: 0|name  |
    r"|\[[\w.-]+ (?:stdout|stderr)\] "  # jan
    r"|\[ *\d{2,10}\] "  # a router: [port]; seconds
)
_PREFIX = re.compile(r"(\d+\.\d\d\.\d{3}\.\d{3}) ([IWED]) ")
_LEVEL = re.compile(r"([IWED]) (?=[A-Za-z_ ])")
_BRACKETS = re.compile(r"(INFO|WARN|ERR|VERB|DBUG|DEBUG) +\[ *([\w:~]+)\] ?")  # ik_llama.cpp
_OLLAMA = re.compile(r'time=\S+ level=(\w+) source=\S+ msg=("(?:[^"\\]|\\.)*"|\S+)')
_OWN_WORDS = re.compile(r"(?:srv|slot|que) +[\w~]+(?:\(\))?: ")
_FATAL = re.compile(r"srv +update_slots: (?:(?:pre_|post_)?decode\(\) failed|Compute error)")


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a log. ``message`` is what follows the prefixes; ``level`` is I, W, E, D or unknown.

    ``own``: the server's logger wrote it. Other lines come from libraries, shells, or who continues a line.
    """

    message: str
    level: str | None
    own: bool

    @property
    def ordinary(self) -> bool:
        """Whether a server that prints this goes on."""
        if not self.own:
            return False
        if self.level == "E" or self.level is None:
            return bool(_OWN_WORDS.match(self.message)) and not _FATAL.match(self.message)
        return True


def parse_line(text: str) -> LogLine:
    """Return a line without the prefixes of the logger, and of what carried the line here."""
    text = _COLOR.sub("", text) if "\x1b" in text else text
    for _ in range(3):
        if _PREFIX.match(text) or not (outer := _OUTER.match(text)):
            break
        text = text[outer.end() :]
    if found := _PREFIX.match(text):
        return LogLine(text[found.end() :], found[2], own=True)
    if (found := _LEVEL.match(text)) or (found := _BRACKETS.match(text)):
        return LogLine(text[found.end() :], found[1][0], own=True)
    if found := _OLLAMA.match(text):
        return LogLine(found[2].strip('"'), found[1][0].upper(), own=True)
    if text.startswith("{") and (line := _structured(text)):
        return line
    return LogLine(text, None, bool(_OWN_WORDS.match(text)))


def _structured(text: str) -> LogLine | None:
    """Return a line of ``--log-jsonl``, or of the builds that logged JSON."""
    try:
        fields = json.loads(text[:LONGEST])
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("msg"), str):
        return None
    return LogLine(fields["msg"], str(fields.get("level") or "I")[:1].upper(), own=True)


_WHERE = r"(?:(?:srv|slot|que|cmn|chat) +[\w~]+(?:\(\))?: )?(?:id +\d+ \| task -?\d+ \| )?(?:\w+(?:\(\))?: )?"
_ECHO = re.compile(
    _WHERE + r"(?:"
    r"error parsing grammar: "
    r"|error initializing grammar sampler for grammar:"
    r"|WARNING: JSON schema conversion was incomplete: "
    r"|unable to match sampler by (?:name|char) "
    r"|Ignoring (?:non-text )?content part type: "
    r"|anthropic string not as expected: "
    r"|unparsed .*output: "
    r"|Tool call mismatch: "
    r"|failed to apply template: "
    r"|(?:downloading image|loading image from local file|loading image) "
    r"|control .* on unknown completion "
    r"|(?:stop on unknown stream session, |DELETE /v1/stream |request for |router stop for )conv_id="
    r"|unsupported Responses tool type '"
    r"|got another exception: "
    r"|got exception: "
    r"|task id = -?\d+, error: (?:got exception: |Failed to initialize samplers: )"
    r"|(?:done )?request: "
    r"|response: "
    r"|Parsing (?:chat message|input with format|PEG input)"
    r"|(?:full .* output triggering error|AST for .* parse)"
    r"|(?:Prompt|prompt|formatted_chat|Generation prompt|Grammar|Tools|Messages): ?(?:$|[^\s\d])"
    r")"
)
_ONE_LINE = re.compile(
    _WHERE + r"(?:"
    r"got exception: \{\"(?:error|code|message)\":.*"  # JSON of the server's own: newlines are escaped
    r"|task id = -?\d+, error: Failed to initialize samplers: failed to parse grammar"
    r"|unsupported Responses tool type '[\w.:-]*' skipped"
    r"|(?:done )?request: [A-Z]+ /[!-~]* \S* [1-5]\d\d"
    r")"
)
"""Lines of the kinds above that end where the client's text ends. All of them are frequent.

A client can imitate such an end in the midst of its text. What it writes then stands before the true end,
and a line with the true end (``_END``) is no part of a last block.
"""
_END = re.compile(r"' skipped$")
_REQUEST_LOG = re.compile(_WHERE + r"(?:done )?request: [A-Z]+ ")
_REQUEST_END = re.compile(r"(?<!\+)\s[1-5]\d\d$")


def opens_echo(line: LogLine) -> bool:
    """Say whether a client's text may stand on the lines after this one."""
    return carries_text(line) and not _ONE_LINE.fullmatch(line.message)


def carries_text(line: LogLine) -> bool:
    """Say whether a client's text may stand on this line."""
    return bool(_ECHO.match(line.message))


def before_echo(lines: tuple[LogLine, ...]) -> tuple[LogLine, ...]:
    """Return the lines up to the first one that lets a client's text follow."""
    for index, line in enumerate(lines):
        if opens_echo(line):
            return lines[:index]
    return lines


def after_ends(lines: tuple[LogLine, ...]) -> tuple[LogLine, ...]:
    """Return the lines after the last one that may end a client's text."""
    logs_requests = any(_REQUEST_LOG.match(line.message) for line in lines)
    for index in range(len(lines) - 1, -1, -1):
        message = lines[index].message
        if _END.search(message) or (logs_requests and _REQUEST_END.search(message)):
            return lines[index + 1 :]
    return lines


def last_block(lines: tuple[LogLine, ...]) -> tuple[LogLine, ...]:
    """Return what was printed after the last line of a server that went on."""
    for index in range(len(lines) - 1, -1, -1):
        if lines[index].ordinary:
            return lines[index + 1 :]
    return lines


def before_more_of_an_exception(lines: tuple[LogLine, ...]) -> tuple[LogLine, ...]:
    """Return the lines up to the first with an exception's words: a client's text may follow on more.

    Shells and systemd speak after it, too; what they say shows in the exit code.
    """
    for index, line in enumerate(lines):
        if _WHAT.match(line.message):
            return lines[: index + 1]
    return lines


_WHAT = re.compile(r" *what\(\): |libc\+\+abi: terminating ")
_LISTENS = re.compile(
    r"(?:srv +\w+: |main: )?(?:server is )?listening on (?:http|https|unix)\S*"
    r"|(?:main: )?(?:server is listening on |starting the main loop)"
    r"|(?:srv +update_slots: )?all slots are idle\b"
    r"|slot +\w+: id +\d+ \| task \d+ \|"
    r"|slot +(?:release|print_timing|launch_slot_): "
    r"|llama runner started"
)


def listens(line: LogLine) -> bool:
    """Say whether only a server that takes requests prints this."""
    return bool(_LISTENS.match(line.message))


_LIBRARY = re.compile(r"(?:llama|ggml|gguf|common|load|main|build|system|print)_?\w*: ")


def is_server_log(line: LogLine) -> bool:
    """Say whether a llama-server or its libraries print such a line."""
    return line.own or bool(_LIBRARY.match(line.message))


_SERVICE_KEYS = re.compile(rb"listening|all slots|slot |main loop|runner started")
_ECHO_KEYS = re.compile(
    rb"grammar|WARNING: JSON|sampler by|content part|anthropic|unparsed|Tool call|"
    rb"template|image|unknown completion|conv_id=|Responses tool|exception|task id|request|response|Parsing|"
    rb"what\(\): |terminating |output|AST for|rompt|chat|Grammar|Tools|Messages"
)
LINE_BYTES = 4096
LINE_COST, MOST_SINCE = 512, 40960
"""An exception's words may be followed by 80 short lines, fewer of them if they are long."""


class LogWatch:
    """Follow a whole log, of which only the end is kept: is the server in service, may a client speak?"""

    def __init__(self) -> None:
        self.serving = self.echoed = self.known = False
        self._rest = b""
        self._since: int | None = None  # bytes and lines since an exception's words

    def resume(self, *, serving: bool, echoed: bool, known: bool) -> None:
        """Go on with a log whose beginning another watch has seen."""
        self.serving, self.echoed, self.known = serving, echoed, known

    def feed(self, data: bytes) -> None:
        """Take what was read; a line may come in pieces."""
        if self.echoed:
            return  # nothing after it can be trusted, whatever it says
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:LINE_BYTES]
        if self._since is not None and self._since + len(rest) + len(data) > MOST_SINCE:
            self.echoed = True
            return
        for line in lines:
            if self._since is not None:
                self._since += LINE_COST + len(line)
                if self._since > MOST_SINCE:  # soon nothing in the tail shows who speaks
                    self.echoed = True
                    return
            is_news = not self.known or (not self.serving and _SERVICE_KEYS.search(line))
            if not is_news and not _ECHO_KEYS.search(line):
                continue
            parsed = parse_line(line[:LONGEST].decode("utf-8", "replace").rstrip("\r"))
            self.known = self.known or is_server_log(parsed)
            self.serving = self.serving or listens(parsed)
            if self.serving and self._since is None and _WHAT.match(parsed.message):
                self._since = 0
            if opens_echo(parsed):
                self.echoed = True
                return
