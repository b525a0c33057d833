"""How eagerly a server is brought back: the numbers of the lifecycle. Pure: data only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """How eagerly a server is brought back. Times are seconds.

    A child that had been ready starts again at once, ``quick_restarts`` times in ``quick_window_s``.
    After that, and for one that never got ready, the delay doubles from first to max, without end.
    Whatever the causes, at most ``most_starts`` starts in ``starts_window_s`` happen without a person's wish.
    A child had a short life if it took ``slow_load_s`` or more to load, and was killed before it served for
    as long as it had loaded. From the second short life in a row on, the next start waits. After
    ``short_lives`` in a row something smaller is planned: a guard against low memory seems to kill it.
    While other programs hold the memory that is needed, the free memory is looked at every
    ``memory_poll_s``. After ``memory_wait_s`` something smaller is planned; where that cannot help, it is
    looked at every ``memory_late_poll_s`` from then on. A new configuration is given up
    after ``trial_memory_wait_s``. Restoring saved slots may take ``restore_timeout_s``.
    """

    quick_restarts: int = 5
    quick_window_s: float = 60.0
    most_starts: int = 60
    starts_window_s: float = 60.0
    first_delay_s: float = 1.0
    max_delay_s: float = 60.0
    slow_load_s: float = 5.0
    short_lives: int = 3
    first_probe_s: float = 0.02
    max_probe_s: float = 1.0
    memory_poll_s: float = 2.0
    memory_late_poll_s: float = 15.0
    memory_wait_s: float = 60.0
    trial_memory_wait_s: float = 5.0
    restore_timeout_s: float = 300.0

    def delay_s(self, failures: int) -> float:
        """Return the wait before the next try after that many failures in a row."""
        return min(self.first_delay_s * 2.0 ** min(failures - 1, 30), self.max_delay_s)

    def probe_s(self, waited_s: float) -> float:
        """Return the time to the next probe: soon for a quick loader, seldom for a slow one."""
        return min(max(waited_s / 10, self.first_probe_s), self.max_probe_s)
