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
    watch = WedgeWatch(look(0.0), batch, batch or 0.0)
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


def test_a_spinning_thread_gets_five_times_the_longest_work_or_the_usual_limit() -> None:
    assert suspected_at(lambda at: ServerSample(at, Traffic(1, 500), slots(2048), at), batch=200) == 1000
    assert suspected_at(lambda at: ServerSample(at, Traffic(1, 500), slots(2048), at), batch=10) == 600


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
    watch = WedgeWatch(ServerSample(0.0, Traffic(1, 0), slots(0), 0.0))
    for at in (10.0, 20.0, 30.0, 40.0):
        moved = slots(2048) if at == 40 else slots(0)
        watch, _ = judge(watch, ServerSample(at, Traffic(1, 0), moved, at), LIMITS)
    assert watch.longest_batch_s == 40


def test_a_client_that_stopped_reading_its_stream_is_progress() -> None:
    assert suspected_at(lambda at: ServerSample(at, Traffic(1, 500, blocked=1), slots(9), 3.0)) is None


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
    watch = WedgeWatch(ServerSample(0.0, Traffic(1, 0), slots(), 3.0), work_s=110.0, quiet_s=110.0)
    watch, verdict = judge(watch, ServerSample(gap, Traffic(1, 0), slots(), 3.0), LIMITS)
    assert (verdict, watch.work_s, watch.quiet_s) == ("calm", 0.0, 0.0)


def test_a_new_request_starts_a_new_count() -> None:
    def look(at: float) -> ServerSample:
        return ServerSample(at, Traffic(0 if at <= 1000 else 1, 0), None, 3.0)

    assert suspected_at(look) == 1120


# Busy, although it looks wedged.


def test_a_server_that_computes_and_whose_slots_say_nothing_is_unknown_not_wedged() -> None:
    """With 16 plain requests the real server leaves ``/slots`` and the probe unanswered, and computes."""
    assert suspected_at(lambda at: ServerSample(at, Traffic(16, 500), None, at), batch=10) == 1800


def test_a_long_prompt_after_a_quick_one_gets_more_than_the_usual_limit() -> None:
    """One whole batch took ten seconds; a batch deep in a long context takes ten minutes."""

    def look(at: float) -> ServerSample:
        tokens = 2048 if at < 20 else 4096 + 2048 * int((at - 20) // 590)
        return ServerSample(at, Traffic(1, 0), slots(tokens), at)

    assert suspected_at(look, until=20_000) is None


@pytest.mark.parametrize("each_s", [8.0, 100.0, 160.0, 220.0])
def test_answers_of_a_quiet_server_with_many_requests_are_progress(each_s: float) -> None:
    """Nobody sees it compute, ``/slots`` says nothing, and one answer leaves after another."""

    def look(at: float) -> ServerSample:
        done = int(at // each_s)
        return ServerSample(at, Traffic(20, 10 * done, answered=done), None, 3.0)

    assert suspected_at(look) is None


def test_a_gpu_that_nobody_can_measure_gives_more_time_than_one_that_rests() -> None:
    """The host's thread sleeps while Metal, Vulkan or a remote device computes a batch of 130 s."""

    def look(at: float, busy: bool | None, work: int | None = None) -> ServerSample:  # noqa: FBT001
        return ServerSample(at, Traffic(1, 0), slots(2048 * int(at // 130)), 3.0, None, busy, work)

    assert suspected_at(lambda at: look(at, None)) is None
    assert suspected_at(lambda at: look(at, True)) is None
    assert suspected_at(lambda at: look(at, None, round(at))) is None
    assert suspected_at(lambda at: look(at, False)) == 120
    assert suspected_at(lambda at: look(at, None, 7)) == 120
    assert suspected_at(lambda at: ServerSample(at, Traffic(1, 0), None, 3.0, gpu_busy=None)) == 600


def test_work_that_was_not_helped_by_a_restart_gets_more_time() -> None:
    watch = WedgeWatch(ServerSample(0.0, Traffic(1, 0), None, 3.0), patience=2.0)
    at, verdict = 0.0, "calm"
    while verdict == "calm":
        at += 10
        watch, verdict = judge(watch, ServerSample(at, Traffic(1, 0), None, 3.0), LIMITS)
    assert at == 240
    watch, _ = judge(watch, ServerSample(at + 10, Traffic(1, 0, answered=1), None, 3.0), LIMITS)
    assert watch.patience == 1


# Wedged, although it looks busy or idle.


def impatient(timeout_s: float, pause_s: float, *, others: int = 0, blocked: int = 0) -> Look:
    """A client that leaves after ``timeout_s`` and comes back ``pause_s`` later; nothing is ever answered."""

    def look(at: float) -> ServerSample:
        turns, since = divmod(at, timeout_s + pause_s)
        waits = since < timeout_s
        traffic = Traffic(waits + others, 500, blocked, left=int(turns) + (not waits))
        return ServerSample(at, traffic, None, 3.0)

    return look


@pytest.mark.parametrize(("timeout_s", "pause_s"), [(60, 15), (6, 7), (3, 60), (1, 9), (119, 1), (30, 300)])
def test_clients_that_leave_unanswered_do_not_hide_a_wedged_server(timeout_s: float, pause_s: float) -> None:
    found = suspected_at(impatient(timeout_s, pause_s))
    assert found is not None
    assert found <= (120 / max(timeout_s, 10) + 2) * (timeout_s + pause_s)


def test_a_client_that_does_not_read_does_not_hide_a_wedged_server() -> None:
    look = impatient(60, 15, others=1, blocked=1)
    assert suspected_at(look) == suspected_at(impatient(60, 15))
    assert suspected_at(lambda at: ServerSample(at, Traffic(2, 500, blocked=1), None, 3.0)) == 120


def test_a_spinning_server_with_clients_that_leave_is_found() -> None:
    def look(at: float) -> ServerSample:
        return ServerSample(at, Traffic(1, 500, left=int(at // 20)), None, at)

    assert suspected_at(look) == 1800


def test_clients_that_leave_a_server_which_answers_others_say_nothing() -> None:
    def look(at: float) -> ServerSample:
        return ServerSample(at, Traffic(1, 0, answered=int(at // 50), left=int(at // 20)), None, 3.0)

    assert suspected_at(look) is None


def test_a_stopped_process_with_many_requests_is_found_at_once() -> None:
    assert suspected_at(lambda at: ServerSample(at, Traffic(40, 500), None, 3.0)) == 240
    assert suspected_at(lambda at: ServerSample(at, Traffic(40, 500), None, 3.0, stopped=True)) == 120


def test_what_was_left_unanswered_is_not_held_against_a_server_that_rests() -> None:
    """One request left after a minute; then nothing comes for hours. It is not asked, let alone ended."""

    def look(at: float) -> ServerSample:
        return ServerSample(at, Traffic(at < 60, 500, left=at >= 60), None, 3.0)

    assert suspected_at(look) is None


def test_a_server_that_generated_a_token_starts_a_new_count() -> None:
    watch = WedgeWatch(ServerSample(0.0, Traffic(1, 0), None, 3.0), 40.0, 50.0, 60.0, 110.0, 110.0, 2.0)
    assert watch.cleared() == WedgeWatch(watch.last, 40.0, 50.0, 60.0)
