"""Cut a stream of bytes into server-sent events. Pure: no I/O.

Works on bytes and cuts only at line ends. So a character that arrives in two parts stays whole, and a U+2028
in an answer does not end a line, as it does in text libraries.
"""

MAX_EVENT_BYTES = 64 * 2**20
"""An event larger than this is no answer of a language model."""


class SseReader:
    """Takes bytes as they arrive, and returns the ``data`` of each complete event."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[str]:
        """Return the events that ``chunk`` completes. Comments and other fields are ignored.

        Raises:
            ValueError: an event is not UTF-8, or is too long.
        """
        whole = self._rest + chunk
        *lines, self._rest = whole.split(b"\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise ValueError(f"an event has more than {MAX_EVENT_BYTES} bytes")
        events: list[str] = []
        for line in lines:
            text = line.removesuffix(b"\r")
            if not text:
                if self._data:
                    events.append(b"\n".join(self._data).decode())
                    self._data = []
            elif text.startswith(b"data:"):
                self._data.append(text.removeprefix(b"data:").removeprefix(b" "))
        return events
