"""Decide who may come in: path, host, origin, key. Pure: no I/O; the key was compared before.

A web page that a person visits must not be able to use the model. Such a page can send requests to loopback.
With a name that changes its address (DNS rebinding) it can even read the answers.
"""

import ipaddress
import re
from dataclasses import dataclass
from enum import Enum, auto

from qwenctl.engine.address import hosts_of
from qwenctl.errors import SettingsError

CANONICAL = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%(?![0-9A-Fa-f]{2})|%[0-9A-Fa-f]{2})*")
HIDDEN = re.compile(
    r"%(?:[01][0-9A-F]|7F|2[DEF]|3[0-9]|4[1-9A-F]|5[0-9ACF]|6[1-9A-F]|7[0-9AE])", re.IGNORECASE
)
"""Encoded characters that no honest client encodes: control characters, slashes, letters and digits."""
STATIC = re.compile(r"/[^?]*\.(?:html|js|css|svg|png|ico|woff2?|webmanifest|map)")
PUBLIC = frozenset({"/", "/health", "/v1/health", "/_app/version.json"})
METHODS = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
LOOPBACK_NAMES = ("localhost", "ip6-localhost")


class KeyCheck(Enum):
    """The result of comparing the key. OPEN: no key is required."""

    OPEN = auto()
    VALID = auto()
    WRONG = auto()
    MISSING = auto()


@dataclass(frozen=True, slots=True)
class Rules:
    """Who may come in. ``any_address``: a Host that is an IP address may, because no name was rebound."""

    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    any_address: bool = False


@dataclass(frozen=True, slots=True)
class GuardQuestion:
    """What the guard needs to know of a request. ``target`` is the path and query as they were sent."""

    method: str
    target: str
    hosts: tuple[str, ...]
    origin: str | None
    site: str | None
    mode: str | None
    upgrade: str | None
    asked_method: str | None
    key: KeyCheck


@dataclass(frozen=True, slots=True)
class Enter:
    """The request may come in. ``origin`` may read the answer."""

    path: str
    origin: str | None


@dataclass(frozen=True, slots=True)
class Preflight:
    """A browser wants to know whether a page of ``origin`` may send a request."""

    origin: str


@dataclass(frozen=True, slots=True)
class Deny:
    """The request is refused."""

    status: int
    code: str
    message: str
    hint: str | None = None


def judge(question: GuardQuestion, rules: Rules) -> Enter | Preflight | Deny:
    """Return whether a request may come in. Checked in this order: form, path, host, origin, key."""
    path, _, _ = question.target.partition("?")
    if denied := _form(question, path) or _path(question.method, path):
        return denied
    host = question.hosts[0] if question.hosts else ""
    if question.key is not KeyCheck.VALID and not _host_allowed(host, rules):
        if not host:
            return Deny(403, "host", "cannot answer: the request has no Host header", "send Host: localhost")
        return Deny(403, "host", f"cannot answer for host {host[:100]!r}", "add it to [gate] allowed_hosts")
    if question.origin is not None and not _origin_allowed(question.origin, host, rules):
        return Deny(
            403,
            "origin",
            f"cannot answer a page of {question.origin[:100]!r}",
            "add it to [gate] allowed_origins",
        )
    if question.origin is None and question.site == "cross-site" and question.mode != "navigate":
        return Deny(403, "origin", "cannot answer a page of another site", "it must send its Origin")
    if question.method == "OPTIONS" and question.origin is not None and question.asked_method is not None:
        return Preflight(question.origin)
    if question.key in (KeyCheck.WRONG, KeyCheck.MISSING) and not _is_public(question.method, path):
        said = "the API key is wrong" if question.key is KeyCheck.WRONG else "no API key was sent"
        return Deny(401, "invalid_api_key", f"cannot answer: {said}", "send Authorization: Bearer KEY")
    return Enter(path, question.origin)


def check_exposure(host: str, *, has_keys: bool, allow_open: bool) -> None:
    """Check that an endpoint without a key stays on this machine.

    Raises:
        SettingsError: it would be open to the network, or it is no address.
    """
    if re.search(r"[\s;,]", "".join(hosts_of(host))):
        raise SettingsError(
            f"cannot listen on {host}: that is no address",
            hint='several addresses stand between commas: host = "127.0.0.1,::1"',
        )
    if has_keys or allow_open or stays_here(host):
        return
    raise SettingsError(
        f"cannot listen on {host}: anyone on the network could use the model without a key",
        hint="set [server] api_key_file or QWENCTL_API_KEY, or [gate] allow_open = true if you want that",
    )


def rules(host: str, hosts: tuple[str, ...], origins: tuple[str, ...]) -> Rules:
    """Return the rules for an endpoint bound to ``host``."""
    own = (each for each in hosts_of(host) if not is_wildcard(each))
    return Rules((*own, *hosts), origins, any_address=not stays_here(host))


def stays_here(host: str) -> bool:
    """Return whether only this machine can reach an endpoint bound to ``host``, one or several of them."""
    return all(is_loopback(each) for each in hosts_of(host))


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach ``host``."""
    if host.lower().rstrip(".") in LOOPBACK_NAMES:
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def is_wildcard(host: str) -> bool:
    """Return whether ``host`` means every address."""
    address = _address(host)
    return address is not None and address.is_unspecified


def cors(origin: str) -> tuple[tuple[str, str], ...]:
    """Return the headers that let a page of ``origin`` read an answer."""
    return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))


def preflight(origin: str, asked_headers: str | None, *, private: bool) -> tuple[tuple[str, str], ...]:
    """Return the headers that answer a preflight of an allowed origin."""
    named = re.sub(r"[^A-Za-z0-9_, -]", "", asked_headers or "")[:1000]
    pairs = [*cors(origin), ("Access-Control-Allow-Methods", METHODS), ("Access-Control-Max-Age", "600")]
    if named:
        pairs.append(("Access-Control-Allow-Headers", named))
    if private:
        pairs.append(("Access-Control-Allow-Private-Network", "true"))
    return tuple(pairs)


def _form(question: GuardQuestion, path: str) -> Deny | None:
    if len(question.hosts) > 1:
        return Deny(400, "bad_request", "cannot answer: several Host headers")
    if question.method in ("CONNECT", "TRACE", "TRACK"):
        return Deny(405, "method", f"cannot {question.method}: not a method of this endpoint")
    if question.upgrade is not None and question.upgrade.lower().strip() == "websocket":
        return Deny(501, "upgrade", "cannot upgrade: this endpoint has no WebSockets", "use plain HTTP")
    decoded = path.replace("%20", "")
    segments = path.split("/")[1:]
    tricky = "//" in path or "." in segments or ".." in segments or HIDDEN.search(path) is not None
    if tricky or CANONICAL.fullmatch(decoded) is None:
        return Deny(400, "path", "cannot pass on that path: it is not in its plain form")
    return None


def _path(method: str, path: str) -> Deny | None:
    """The slots hold other people's prompts, and properties are the owner's."""
    segments = [segment.lower() for segment in path.split("/")]
    if "slots" in segments:
        return Deny(403, "owner_only", "cannot show slots here: only on the control socket")
    if "props" in segments and method not in ("GET", "HEAD", "OPTIONS"):
        return Deny(403, "owner_only", "cannot change properties here: only on the control socket")
    return None


def _is_public(method: str, path: str) -> bool:
    return method in ("GET", "HEAD") and (path in PUBLIC or STATIC.fullmatch(path) is not None)


def _host_allowed(host: str, rules: Rules) -> bool:
    name = _name(host)
    if name is None:
        return False
    if is_loopback(name) or (rules.any_address and _address(name) is not None):
        return True
    return any(_matches(name, _name(rule) or rule.lower()) for rule in rules.hosts)


def _origin_allowed(origin: str, host: str, rules: Rules) -> bool:
    scheme, _, authority = origin.partition("://")
    if scheme in ("http", "https") and authority:
        name = _name(authority)
        if name is not None and (is_loopback(name) or authority.lower() == host.lower()):
            return True
    return any(_matches(origin.lower(), rule.lower()) for rule in rules.origins)


def _matches(value: str, rule: str) -> bool:
    """``*`` stands for anything at the start or the end of a rule."""
    if rule == "*":
        return True
    if rule.startswith("*"):
        return value.endswith(rule[1:])
    if rule.endswith("*"):
        return value.startswith(rule[:-1])
    return value == rule


def _name(authority: str) -> str | None:
    """Return the host of ``host[:port]`` in lower case, or None if it is none."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+|[0-9A-Fa-f:]{2,})(?::[0-9]{1,5})?", authority)
    return found.group(1).strip("[]").lower().rstrip(".") if found else None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
