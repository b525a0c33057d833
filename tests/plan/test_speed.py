"""What is claimed for a machine, and what its memory allows."""

import pytest

from qwenctl.plan.budget import machines
from qwenctl.plan.speed import bandwidth_gb_s, bytes_per_token, speed
from tests.fakes.machines import GIB, machine, made_up, profile

BIG = profile("qwen3.6-27b")


@pytest.mark.parametrize(
    ("name", "cores", "gb_s"),
    [
        ("Apple M3 Max", 16, 400),
        ("Apple M3 Max", 14, 300),
        ("Apple M4", 10, 120),
        ("Apple M2", 8, 100),
        ("NVIDIA GeForce RTX 4090", 16, 1008),
        ("NVIDIA GeForce RTX 4080 SUPER", 16, 736),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16, None),
        ("NVIDIA A100 80GB PCIe", 64, 1935),
        ("NVIDIA A100-SXM4-80GB", 64, 2039),
        ("NVIDIA A100-SXM4-40GB", 64, 1555),
        ("something new", 8, None),
    ],
)
def test_bandwidth_by_name(name: str, cores: int, gb_s: float | None) -> None:
    assert bandwidth_gb_s(name, cores) == gb_s


@pytest.mark.parametrize(
    ("name", "gib", "gb_s"),
    [
        ("Apple M5 Max", 36, 460),
        ("Apple M5 Max", 48, 614),
        ("Apple M5 Max", None, 614),
        ("Apple M5 Pro", 24, 307),
        ("Apple M5 Ultra", 96, 1200),
        ("Apple M6", 16, 153),
        ("Apple M6", 24, 170),
        ("Apple M3 Max", 36, 400),
    ],
)
def test_two_variants_with_the_same_cpu_are_told_apart_by_their_memory(
    name: str, gib: int | None, gb_s: float
) -> None:
    assert bandwidth_gb_s(name, 18, None if gib is None else gib * GIB) == gb_s


@pytest.mark.parametrize(
    ("name", "quant", "claim", "bound"),
    [
        ("m3-max-36gb", "Q4_K_M", (25, 30), 18.6),
        ("m4-max-64gb", "Q6_K", (20, 25), 25.4),
        ("rtx4090-24gb", "Q4_K_M", (30, 40), 62.6),
        ("2xa100-80gb", "BF16", (50, None), 37.8),
        ("m2-16gb", "Q3_K_M", (15, 20), 7.7),
        ("cpu-24gb", "Q3_K_M", (1, 2), None),
    ],
)
def test_the_recipes_claim_stands_beside_the_bound(
    name: str, quant: str, claim: tuple[float, float | None], bound: float | None
) -> None:
    hardware = machine(name)
    found = BIG.quant(quant)
    assert found is not None
    pace = speed(machines(hardware)[0], BIG, found, hardware.cpu.physical_cores)
    assert (pace.low, pace.high, pace.bound) == (*claim, bound)
    assert pace.doubtful == (bound is not None and claim[0] > bound)
    assert pace.source is not None
    assert "claim" in pace.source


def test_an_unknown_machine_has_no_published_speed_and_no_bound() -> None:
    hardware = made_up(ram_bytes=64 * GIB, cards=(24 * GIB,))
    pace = speed(machines(hardware)[0], BIG, BIG.quants[0], 8)
    assert (pace.low, pace.bound, pace.doubtful) == (None, None, False)


def test_a_mixture_reads_only_the_experts_it_uses() -> None:
    mixture = profile("qwen3.6-35b-a3b")
    quant = mixture.quants[0]
    read = bytes_per_token(mixture.architecture, quant)
    assert 2.5e9 < read < 4e9, "about 3 billion active parameters at 8.5 bits"
