"""The attacks on the gate that were tried, and what each one got: on the wire, against the real daemon.

Run from the repository's root: python -m benchmarks.gate_attacks [--slow]
One daemon asks for a key, one does not (the default, loopback only). A slot holds a prompt; after each
attack the owner sees through the control socket whether it still does, and no answer may contain it.
--slow adds the clients that take their time, against the limits as shipped (75 s for a head, 120 s for
a body, 300 s without reading): 7 minutes. Prints Markdown; ends with 1 if an attack got what it should
not.
"""

import argparse
import contextlib
import json
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx

from benchmarks.lib.daemon import home
from benchmarks.lib.gate_attack_list import CLOSED, KEY, Attack, keys, pages, paths, shapes, slow
from tests.fakes.home import Home

PROMPT = "once upon a time in a slot"
ANSWER_S = 5.0
SLOW_S = 500.0
CHUNK = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"


def sent(port: int, attack: Attack, within_s: float) -> bytes:
    """Send the bytes; return what came back until the connection was closed."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=within_s) as wire:
        with contextlib.suppress(ConnectionError, TimeoutError):
            wire.sendall(attack.sent.encode("latin-1"))
            for _ in range(attack.body_bytes // 0x100000):
                wire.sendall(CHUNK)
        with contextlib.suppress(ConnectionError):
            while data := wire.recv(65536):
                got += data
    return got


def came(got: bytes) -> str:
    """Return the status codes of the answers."""
    return b" ".join(re.findall(rb"HTTP/1\.[01] (\d\d\d)", got)).decode() or CLOSED


def fits(what: str, attack: Attack) -> bool:
    """Return whether this may come of the attack."""
    return what in attack.expected or (len(what) == 3 and f"{what[0]}xx" in attack.expected)


def try_all(where: Home, attacks: Iterable[Attack]) -> int:
    """Print a row for each; return how many got what they should not."""
    fill(where)
    bad = 0
    for attack in attacks:
        try:
            got = sent(where.port, attack, ANSWER_S)
            what = came(got)
        except TimeoutError:
            got, what = b"", "no answer"
        held = slot_holds(where)
        good = fits(what, attack) and held and PROMPT.encode() not in got
        bad += not good
        print(
            f"| `{attack.name}` | {what} | {'intact' if held else 'CHANGED'} |{'' if good else ' **BAD** |'}"
        )
    return bad


def fill(where: Home) -> None:
    """Put the secret into the slot."""
    body = {"prompt": PROMPT, "n_predict": 0}
    right = {"Authorization": f"Bearer {KEY}"}
    url = f"http://127.0.0.1:{where.port}/completion"
    httpx.post(url, json=body, headers=right, timeout=60).raise_for_status()


def slot_holds(where: Home) -> bool:
    """Return whether the secret is still there, as the owner sees it."""
    transport = httpx.HTTPTransport(uds=str(where.state / "control.sock"))
    with httpx.Client(transport=transport, timeout=30) as owner:
        return PROMPT in owner.get("http://x/slots").text


def take_time(where: Home) -> int:
    """Let the slow clients wait side by side; print what came and when."""
    tries: dict[str, Callable[[], str]] = {
        attack.name: partial(lambda one: came(sent(where.port, one, SLOW_S)), attack) for attack in slow()
    }
    tries["a stream that nobody reads"] = lambda: stop_reading(where)
    with ThreadPoolExecutor(len(tries)) as threads:
        running = {name: threads.submit(timed, each) for name, each in tries.items()}
        rows = {name: each.result() for name, each in running.items()}
    print("\n| slow client | came | after |\n|---|---|---|")
    for name, (what, took) in rows.items():
        print(f"| {name} | {what} | {took:.0f} s |")
    return sum(took >= SLOW_S for _, took in rows.values())


def timed(run: Callable[[], str]) -> tuple[str, float]:
    """Return what came, and after how long."""
    since = time.monotonic()
    try:
        return run(), time.monotonic() - since
    except TimeoutError:
        return "still open", time.monotonic() - since


def stop_reading(where: Home) -> str:
    """Ask for an endless stream and read nothing; return when the gate has let go of it."""
    body = json.dumps({"prompt": "hi", "n_predict": -1, "stream": True, "ignore_eos": True, "n_probs": 50})
    head = f"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.connect(("127.0.0.1", where.port))
        wire.sendall((head + body).encode())
        give_up_at = time.monotonic() + SLOW_S
        while time.monotonic() < give_up_at:
            time.sleep(1)
            if not slot_busy(where):
                return "cut off, its slot free again"
    raise TimeoutError


def slot_busy(where: Home) -> bool:
    """Return whether the slot works, as the owner sees it."""
    transport = httpx.HTTPTransport(uds=str(where.state / "control.sock"))
    with httpx.Client(transport=transport, timeout=30) as owner:
        return any(slot["is_processing"] for slot in owner.get("http://x/slots").json())


def main() -> None:
    """Try them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slow", action="store_true")
    asked = parser.parse_args()
    attacks = [*keys(), *pages(), *paths(), *shapes()]
    print("| attack | answers | slot |\n|---|---|---|")
    with home() as where:
        (where.path / "keys").write_text(f"{KEY}\n")
        where.environment["QWENCTL_SERVER__API_KEY_FILE"] = str(where.path / "keys")
        where.up()
        bad = try_all(where, (attack for attack in attacks if attack.keyed))
    with home(QWENCTL_CONTEXT__TOKENS="131072") as where:
        where.up()
        bad += try_all(where, (attack for attack in attacks if not attack.keyed))
        bad += take_time(where) if asked.slow else 0
    print(f"\n{len(attacks)} attacks, {bad} got what they should not")
    sys.exit(min(bad, 1))


if __name__ == "__main__":
    main()
