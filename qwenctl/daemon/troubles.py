"""What is wrong around a server that goes on serving, one line a place. The status shows them."""

from typing import Literal

Place = Literal[
    "status",
    "events",
    "log",
    "child",
    "folder",
    "overrides",
    "good",
    "refused",
    "load",
    "loads",
    "gate",
    "sockets",
    "control socket",
    "descriptors",
    "effects",
    "engine",
]


class Troubles:
    """The troubles of now. A place whose trouble has passed is set to None."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def set(self, place: Place, trouble: str | None) -> None:
        """Say what is wrong in this place now, if anything."""
        if trouble is None:
            self._places.pop(place, None)
        else:
            self._places[place] = trouble

    def set_loop(self, name: str, trouble: str | None) -> None:
        """Say what is wrong with a loop beside the server, if anything."""
        if trouble is None:
            self._places.pop(f"loop: {name}", None)
        else:
            self._places[f"loop: {name}"] = trouble

    def get(self, place: Place) -> str | None:
        """Return what is wrong in this place."""
        return self._places.get(place)

    def by_place(self) -> tuple[tuple[str, str], ...]:
        """Return the troubles with their places. A loop of another program is none of ours."""
        return tuple(pair for pair in self._places.items() if not pair[0].startswith("loop: "))

    def resume(self, places: tuple[tuple[str, str], ...]) -> None:
        """Go on with the troubles that an earlier program knew."""
        self._places = dict(places)

    def all(self) -> tuple[str, ...]:
        """Return every trouble, each once."""
        return tuple(dict.fromkeys(self._places.values()))
