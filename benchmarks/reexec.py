"""Re-executions under load, half of them into a program that fails: what did the clients notice?

Run from the repository's root: python -m benchmarks.reexec [--rounds 20] [--streams 8] [--plain 8]
Real daemon, real server, demo model. The clients ask without a pause, half of them over one connection each.
Every second program is a good one. The others fail at once, after their preflight, or hang in it, in turn.
Prints Markdown; ends with 1 if a request was lost, a good program did not keep the server, or the number of
daemons was ever another one than one.
"""

import argparse
import asyncio
import collections
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lib.daemon import home
from tests.fakes.home import Home, until
from tests.fakes.reexec_load import DaemonCount, Visitors, programs, reexec

BAD = ("fails at once", "fails after the preflight", "hangs in the preflight")
BETWEEN = 24
"""So many answers come between two re-executions."""
READY_S = 60.0


@dataclass(slots=True)
class Kind:
    """What came of the re-executions into one kind of program. Times are seconds."""

    codes: collections.Counter[int] = field(default_factory=collections.Counter)
    servers_kept: int = 0
    daemons_kept: int = 0
    waited_s: list[float] = field(default_factory=list)
    slowest_s: float = 0.0
    said: str = ""


def open_files(pid: int) -> int:
    """Return how many files a process has open; 0 where the system does not show it."""
    folder = Path(f"/proc/{pid}/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


async def once(where: Home, name: str, program: Path, visitors: Visitors, kind: Kind) -> None:
    """Re-execute once and note what came of it."""
    before, visitors.slowest_s = where.status(), 0.0
    done = await reexec(where, program, "--wait", "120")
    await asyncio.to_thread(until, lambda: where.status().get("ready"), READY_S)
    await visitors.answered(BETWEEN)
    after = where.status()
    kind.codes[done.code] += 1
    kind.servers_kept += after["pid"] == before["pid"]
    kind.daemons_kept += after["daemon_pid"] == before["daemon_pid"]
    told = after.get("reexec")
    if told is not None and told != before.get("reexec"):
        kind.waited_s.append(told["waited_s"])
    kind.slowest_s = max(kind.slowest_s, visitors.slowest_s)
    kind.said = kind.said or (done.out if done.code == 0 else done.err).strip().replace("\n", " · ")
    print(f"{name}: {kind.said}", file=sys.stderr)


async def play(
    where: Home, rounds: int, streams: int, plain: int, visitors: Visitors, kinds: dict[str, Kind]
) -> None:
    """Let the clients ask, and re-execute so many times."""
    found = programs(where.path)
    async with visitors.asking(streams, plain):
        await visitors.answered(BETWEEN)
        for turn in range(rounds):
            name = "good" if turn % 2 == 0 else BAD[(turn // 2) % len(BAD)]
            await once(where, name, found[name], visitors, kinds.setdefault(name, Kind()))


def rows(kinds: dict[str, Kind]) -> list[str]:
    """Return the table of the re-executions."""
    head = ["the new program", "times", "exit codes", "server kept", "daemon's pid kept"]
    head += ["clients waited, median (longest)", "slowest request"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, kind in kinds.items():
        times = kind.codes.total()
        codes = ", ".join(f"{count} x {code}" for code, count in sorted(kind.codes.items()))
        waited = "not at all"
        if kind.waited_s:
            waited = f"{statistics.median(kind.waited_s):.2f} s ({max(kind.waited_s):.2f} s)"
        lines.append(
            f"| {name} | {times} | {codes} | {kind.servers_kept} | {kind.daemons_kept} | {waited} "
            f"| {kind.slowest_s:.2f} s |"
        )
    return lines


def main() -> None:
    """Play, print the tables, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--plain", type=int, default=8)
    given = parser.parse_args()
    kinds: dict[str, Kind] = {}
    begun = time.monotonic()
    with home(QWENCTL_CONTEXT__PARALLEL="4", QWENCTL_SERVER__EXTRA_ARGS='["-t", "1"]') as where:
        where.up()
        visitors, count = Visitors(where.port), DaemonCount(where)
        first = open_files(where.status()["daemon_pid"])
        with count.looking():
            asyncio.run(play(where, given.rounds, given.streams, given.plain, visitors, kinds))
        last = open_files(where.status()["daemon_pid"])
        done = where.run("events", "-n", "1000").out
    print(f"{given.rounds} re-executions in {time.monotonic() - begun:.0f} s\n")
    print("\n".join(rows(kinds)))
    print("\n| client | requests |\n|---|---|")
    print("\n".join(f"| {name} | {number} |" for name, number in sorted(visitors.counts.items())))
    print(f"\nLost: {sum(visitors.lost().values())}.")
    print(
        f"Looks at the lock: {count.looks}; no daemon: {count.none}; "
        f"two daemons: {count.two}. Open files of the daemon without clients: {first}, then {last}.\n"
    )
    for name, kind in kinds.items():
        print(f"- {name}: `{kind.said}`")
    print("\nEvents: " + str(collections.Counter(line.split()[1] for line in done.splitlines())))
    good = kinds["good"]
    kept = good.servers_kept == good.daemons_kept == good.codes[0] == good.codes.total()
    if visitors.lost() or not kept or count.none or count.two:
        sys.exit(1)


if __name__ == "__main__":
    main()
