"""Split a stream of server-sent events at their ends, so that only whole events are sent. Pure: no I/O."""

MAX_EVENT_BYTES = 1 << 20
"""An event longer than this is passed on in pieces rather than kept."""


class EventSplitter:
    """Takes bytes as they come and gives back whole events. ``rest`` is the event that is not whole yet."""

    __slots__ = ("rest",)

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return the events that are whole now."""
        if not self.rest and data.endswith(b"\n\n"):
            return data
        data = self.rest + data
        plain, carriage = data.rfind(b"\n\n"), data.rfind(b"\r\n\r\n")
        end = max(plain + 2 if plain >= 0 else 0, carriage + 4 if carriage >= 0 else 0)
        if not end and len(data) > MAX_EVENT_BYTES:
            end = len(data)
        self.rest = data[end:]
        return data[:end]


def skip_comments(events: bytes) -> bytes:
    """Return whole events without the comments before the first of them. A ping is no answer."""
    while events.startswith((b":", b"\n", b"\r\n")):
        if not events.startswith(b":"):
            events = events[1:]
            continue
        end = events.find(b"\n")
        events = events[end + 1 :] if end >= 0 else b""
    return events
