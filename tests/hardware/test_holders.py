"""What is free and who holds it, on this machine."""

import os

import psutil

from qwenctl.hardware.holders import RAM, Holder, free_bytes, holders, largest


def test_free_ram_is_within_the_ram() -> None:
    ram = free_bytes()[0]
    assert ram.place == RAM
    assert ram.bytes is not None
    assert 0 < ram.bytes <= psutil.virtual_memory().total


def test_this_process_is_among_the_holders_of_ram() -> None:
    mine = [holder for holder in holders(100_000) if holder.pid == os.getpid() and holder.place == RAM]
    assert len(mine) == 1
    assert mine[0].bytes is not None
    assert mine[0].bytes > 1 << 20


def test_the_largest_holders_come_first_and_the_list_is_cut_at_top() -> None:
    held = [Holder(RAM, pid, "x", size) for pid, size in ((1, 5), (3, 9), (2, 9), (4, None))]
    assert [holder.pid for holder in largest(held, 3)] == [2, 3, 1]
