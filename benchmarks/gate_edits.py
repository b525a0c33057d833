"""Clients of the gate while its configuration is edited, again and again: what did they notice?

Run from the repository's root: python -m benchmarks.gate_edits [--rounds 3]
Real daemon, real server, demo model. Eight clients stream and sixteen ask plainly, without a pause. Each
round saves 17 configurations: every key of [gate], the key file, host and port, good ones and bad ones.
Prints Markdown; ends with 1 if an answer was cut, a client was refused at an address that stays, or the
server or a slot that no client uses is not what it was.
"""

import argparse
import asyncio
import socket
import sys
import time

from benchmarks.lib.daemon import home
from tests.fakes.gate_clients import Editor, asking, edits, fill_slot, kept_slot, play
from tests.fakes.home import Home, free_port

SLOTS, STREAMS, PLAIN = 5, 8, 16


async def run(where: Home, rounds: int, taken: int) -> int:
    """Print what the clients saw; return the exit code."""
    before, since, made = kept_slot(where), time.monotonic(), 0
    async with asking(where.port, SLOTS, STREAMS, PLAIN) as clients:
        for _ in range(rounds):
            these = edits(where.path, taken, (free_port(), free_port()))
            await play(where, clients, these)
            made += len(these)
        took = time.monotonic() - since
    print(f"{made} edits in {took:.1f} s; slowest request {clients.slowest_s:.2f} s\n")
    print("| what | how often |\n|---|---|")
    for what, often in sorted(clients.counts.items()):
        print(f"| {what} | {often} |")
    same = kept_slot(where) == before
    print(f"\nserver and slot {'are what they were' if same else f'were {before}, are {kept_slot(where)}'}")
    for fault in clients.faults:
        print(f"- {fault}")
    return int(bool(clients.faults) or not same)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    settings = {"QWENCTL_CONTEXT__PARALLEL": str(SLOTS), "QWENCTL_CONTEXT__TOKENS": "2048"}
    with home(**settings) as where, socket.create_server(("127.0.0.1", 0)) as other:
        Editor(where).save(f'profile = "demo"\n[server]\nport = {where.port}\n')
        ran = where.run("up")
        if ran.code != 0:
            sys.exit(ran.err)
        fill_slot(where.port)
        sys.exit(asyncio.run(run(where, asked.rounds, other.getsockname()[1])))


if __name__ == "__main__":
    main()
