"""Turn counts of bytes into progress: speed over the last seconds, not too often."""

from collections import deque
from collections.abc import Callable

from qwenctl.fetch.request import FetchPhase, Progress

WINDOW_S = 8.0
INTERVAL_S = 0.1


class TransferMeter:
    """Report the progress of one fetch. Bytes of an earlier fetch don't count as speed."""

    def __init__(
        self, clock: Callable[[], float], on_progress: Callable[[Progress], None], total: int
    ) -> None:
        self._clock = clock
        self._on_progress = on_progress
        self._total = total
        self._samples: deque[tuple[float, int]] = deque()
        self._file = ""
        self._before = 0
        self._phase: FetchPhase | None = None
        self._reported = 0.0

    def start(self, file: str, before: int) -> None:
        """Start a file; ``before`` bytes of other files are done."""
        self._file = file
        self._before = before
        self._samples.clear()

    def report(self, phase: FetchPhase, done: int) -> None:
        """Report how many bytes of the current file are done. A new phase is reported at once."""
        now = self._clock()
        if phase != self._phase or (self._samples and done < self._samples[-1][1]):
            self._samples.clear()
        elif now - self._reported < INTERVAL_S:
            return
        self._samples.append((now, done))
        while now - self._samples[0][0] > WINDOW_S and len(self._samples) > 2:
            self._samples.popleft()
        self._phase = phase
        self._reported = now
        self._on_progress(
            Progress(
                file=self._file,
                bytes=self._before + done,
                total_bytes=self._total,
                bytes_per_s=self._speed(),
                phase=phase,
            )
        )

    def _speed(self) -> float:
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0
