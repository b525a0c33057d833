"""tune: what is tried and what is kept, by value, on a server that exists in numbers only."""

import statistics
from collections.abc import Callable, Iterator

from qwenctl.client.bench.tune import BenchSample, Tuned, same_share, tune, variants
from qwenctl.errors import LaunchError

FLAGS = (
    "--threads --spec-type --spec-ngram-mod-n-max --spec-draft-n-max --ubatch-size -ctk -ctv --flash-attn"
).split()


class Machine:
    """A server whose speed is known for each set of arguments."""

    def __init__(
        self, speed: Callable[[str], float], taken: Callable[[str], int] = lambda _words: 100
    ) -> None:
        self.running: tuple[str, ...] = ()
        self.started: list[tuple[str, ...]] = []
        self._speed, self._taken = speed, taken

    def switch(self, arguments: tuple[str, ...]) -> None:
        """Run with these arguments."""
        self.running = arguments
        self.started.append(arguments)
        if "--broken" in arguments:
            raise LaunchError("cannot start: broken")

    def measure(self) -> BenchSample:
        """Measure, with a little noise that is always the same."""
        words = " ".join(self.running)
        speed = self._speed(words)
        return BenchSample(
            tuple(speed * (1 + n / 200) for n in (-2, -1, 0, 1, 2)), {"q": "text"}, self._taken(words)
        )


def tuned(
    machine: Machine, *, left: Iterator[bool] | None = None, most: int | None = 1000, inexact: bool = False
) -> Tuned:
    offered = variants(FLAGS, 4, 8, mtp=False, inexact=inexact)
    more = (lambda: next(left)) if left is not None else (lambda: True)
    return tune(offered, machine.switch, machine.measure, most, more, lambda _tried: None)


def test_what_is_faster_is_kept_together_and_the_server_is_left_as_it_was() -> None:
    machine = Machine(lambda words: 10 + 2 * ("--threads 8" in words) + 3 * ("ngram-mod" in words))
    found = tuned(machine)
    assert found.arguments == ("--threads", "8", "--spec-type", "ngram-mod")
    assert found.gain is not None
    assert found.gain.low > 1.4
    assert machine.running == ()
    assert statistics.mean(found.before) * 1.4 < statistics.mean(found.after)


def test_noise_keeps_nothing() -> None:
    found = tuned(Machine(lambda words: 10 + 0.05 * ("--threads 8" in words)))
    assert found.arguments == ()
    assert {tried.verdict for tried in found.tried} == {"base", "no faster"}


def test_what_is_faster_than_what_was_kept_takes_its_place() -> None:
    speeds = {"--threads 4": 12.0, "--threads 8": 14.0}
    found = tuned(Machine(lambda words: speeds.get(words, 10.0)))
    assert found.arguments == ("--threads", "8")


def test_what_takes_more_than_the_plan_is_never_kept() -> None:
    machine = Machine(lambda words: 20.0 if words else 10.0, lambda words: 2000 if words else 100)
    found = tuned(machine)
    assert found.arguments == ()
    assert {tried.verdict for tried in found.tried} == {"base", "too much memory"}


def test_a_machine_that_gets_faster_by_itself_keeps_nothing() -> None:
    """Another program leaves the CPU bit by bit: each measurement is better than the one before."""
    calm = iter(range(1000))
    assert tuned(Machine(lambda _words: 10 + next(calm))).arguments == ()


def test_a_lucky_start_is_not_kept() -> None:
    """Two threads are no faster, but one start of them was."""
    seen: list[str] = []

    def speed(words: str) -> float:
        seen.append(words)
        return 13.0 if words == "--threads 2" and seen.count(words) == 1 else 10.0

    found = tuned(Machine(speed))
    assert found.arguments == ()
    assert "kept" not in {tried.verdict for tried in found.tried}


def test_a_gain_that_does_not_come_again_is_not_kept() -> None:
    """Faster twice, and not at the end: another program had gone meanwhile, say."""
    seen: list[str] = []

    def speed(words: str) -> float:
        seen.append(words)
        return 12.0 if words == "--threads 8" and seen.count(words) <= 2 else 10.0

    assert tuned(Machine(speed)).arguments == ()


def test_options_end_with_the_time_and_refused_ones_are_said() -> None:
    found = tuned(Machine(lambda _words: 10.0), left=iter([True, False, False, False, False, False]))
    assert [tried.verdict for tried in found.tried] == ["base", "no faster"] + ["no time"] * (
        len(found.tried) - 2
    )
    offered = (variants(FLAGS, 1, 1, mtp=False, inexact=False)[0],)
    machine = Machine(lambda _words: 10.0)

    def refuse(arguments: tuple[str, ...]) -> None:
        machine.switch((*arguments, "--broken") if arguments else ())

    done = tune(offered, refuse, machine.measure, None, lambda: True, lambda _tried: None)
    assert done.tried[1].why == "cannot start: broken"
    assert machine.running == ()


def test_inexact_options_and_mtp_are_tried_only_where_they_may_be() -> None:
    exact = variants(FLAGS, 4, 8, mtp=False, inexact=False)
    assert all(variant.exact for variant in exact)
    assert [variant.name for variant in exact] == [
        "4 threads",
        "8 threads",
        "2 threads",
        "3 threads",
        "ngram-mod",
    ]
    every = variants(FLAGS, 4, 8, mtp=True, inexact=True)
    assert {"mtp 2", "kv q8_0", "ubatch 256", "flash attention off"} <= {variant.name for variant in every}
    assert variants((), 4, 8, mtp=True, inexact=True) == ()


def test_the_share_of_text_that_stays_ends_at_the_first_difference() -> None:
    assert same_share({"a": "abcd", "b": "abcd"}, {"a": "abcd", "b": "abxd"}) == 0.75
    assert same_share({"a": ""}, {"a": "x"}) is None
