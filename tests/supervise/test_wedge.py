"""When a server is suspected of being wedged, and when never. Times in seconds, one sample every 10."""

from collections.abc import Callable, Iterator

import pytest

from qwenctl.engine.slot import Slot
from qwenctl.supervise.wedge import ServerSample, Traffic, WedgeLimits, WedgeWatch, judge

LIMITS = WedgeLimits()
Look = Callable[[float], ServerSample]


def slots(prompt: int = 0, answer: int = 0, *, busy: bool = True) -> tuple[Slot, ...]:
    return (Slot(task=1, busy=busy, prompt_tokens=prompt, answer_tokens=answer),)


def suspected_at(look: Look, until: float = 7200, batch: float | None = None) -> float | None:
    """Watch what ``look`` shows at each time; return when it was first suspected."""
    watch = WedgeWatch(0.0, look(0.0), batch)
    for now in ticks(until):
        watch, verdict = judge(watch, look(now), LIMITS)
        if verdict == "suspect":
            return now
    return None


def ticks(until: float) -> Iterator[float]:
    return (10.0 * n for n in range(1, int(until / 10) + 1))


def test_an_idle_server_is_never_suspected() -> None:
    assert suspected_at(lambda at: ServerSample(at, None, slots(busy=False), 0.0)) is None
    assert suspected_at(lambda at: ServerSample(at, Traffic(0, 5))) is None


def test_a_server_that_answers_only_health_is_suspected() -> None:
    """Nobody knows what is in flight; no CPU is used. Source: llama.cpp #27388."""
    assert suspected_at(lambda at: ServerSample(at, None, None, 3.0)) == 120


def test_a_stopped_process_with_work_in_flight_is_suspected() -> None:
    assert suspected_at(lambda at: ServerSample(at, Traffic(1, 500), None, 3.0)) == 120


def test_work_in_flight_without_progress_and_without_cpu_time_is_suspected() -> None:
    assert suspected_at(lambda at: ServerSample(at, Traffic(1, 500), slots(2048), 3.0)) == 120


def test_a_spinning_thread_gets_half_an_hour_before_the_first_batch_and_no_more() -> None:
    assert suspected_at(lambda at: ServerSample(at, Traffic(1, 500), slots(2048), at)) == 1800


def test_a_spinning_thread_gets_five_times_the_longest_batch() -> None:
    assert suspected_at(lambda at: ServerSample(at, Traffic(1, 500), slots(2048), at), batch=40) == 200
    assert suspected_at(lambda at: ServerSample(at, Traffic(1, 500), slots(2048), at), batch=10) == 120


def test_a_ten_minute_prefill_on_a_slow_cpu_with_no_bytes_and_no_answers_is_left_alone() -> None:
    """Source: ik_llama.cpp #1210; unsloth #8945, where a watchdog killed a busy 27B."""

    def look(at: float) -> ServerSample:
        if at >= 600:
            return ServerSample(at, Traffic(1, 500 + round(at)), slots(4000, 1), at)
        return ServerSample(at, Traffic(1, 500), None, at)

    assert suspected_at(look) is None


def test_a_long_prefill_after_quick_answers_is_left_alone_too() -> None:
    """Quick decoding and short prompts say nothing about how long a whole batch takes."""

    def look(at: float) -> ServerSample:
        if at <= 60:
            return ServerSample(at, Traffic(1, round(at)), slots(12, round(at)), at)
        batches = int((at - 60) // 600)
        return ServerSample(at, Traffic(1, 60), slots(2048 * batches, 60), at)

    assert suspected_at(look) is None


def test_a_whole_batch_teaches_how_long_one_takes() -> None:
    watch = WedgeWatch(0.0, ServerSample(0.0, Traffic(1, 0), slots(0), 0.0))
    for at in (10.0, 20.0, 30.0, 40.0):
        moved = slots(2048) if at == 40 else slots(0)
        watch, _ = judge(watch, ServerSample(at, Traffic(1, 0), moved, at), LIMITS)
    assert watch.longest_batch_s == 40


def test_a_client_that_stopped_reading_its_stream_is_progress() -> None:
    assert (
        suspected_at(lambda at: ServerSample(at, Traffic(1, 500, reader_waits=True), slots(9), 3.0)) is None
    )


def test_bytes_through_the_gate_are_progress_whatever_the_slots_say() -> None:
    assert suspected_at(lambda at: ServerSample(at, Traffic(1, round(at)), None, 3.0)) is None


def test_counters_that_move_once_in_a_while_are_progress() -> None:
    assert suspected_at(lambda at: ServerSample(at, None, slots(answer=int(at // 110)), 3.0)) is None


def test_progress_counts_although_samples_between_had_no_answer() -> None:
    def look(at: float) -> ServerSample:
        return ServerSample(at, None, slots(answer=int(at)) if at % 100 == 0 else None, 3.0)

    assert suspected_at(look) is None


def test_a_server_that_uses_the_gpu_and_no_cpu_is_alive() -> None:
    assert suspected_at(lambda at: ServerSample(at, Traffic(1, 0), None, 3.0, gpu_busy=True)) == 1800


def test_a_server_that_gets_no_cpu_on_a_crowded_machine_is_alive() -> None:
    assert suspected_at(lambda at: ServerSample(at, Traffic(1, 0), None, 3.0, runnable=True)) == 1800


def test_a_server_whose_cpu_time_is_unknown_counts_as_alive() -> None:
    assert suspected_at(lambda at: ServerSample(at, Traffic(1, 0), None, None)) == 1800


@pytest.mark.parametrize("gap", [100.0, 4000.0])
def test_after_a_pause_of_the_machine_counting_starts_again(gap: float) -> None:
    watch = WedgeWatch(0.0, ServerSample(0.0, Traffic(1, 0), slots(), 3.0))
    watch, verdict = judge(watch, ServerSample(gap, Traffic(1, 0), slots(), 3.0), LIMITS)
    assert verdict == "calm"
    assert watch.progress_at == gap


def test_a_new_request_starts_a_new_count() -> None:
    def look(at: float) -> ServerSample:
        return ServerSample(at, Traffic(0 if at <= 1000 else 1, 0), None, 3.0)

    assert suspected_at(look) == 1120
