"""One slot of a llama-server, as ``GET /slots`` shows it. Pure: no I/O."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot holds and what it does.

    ``text`` is its prompt and what was generated after it; llama-server shows it only with
    ``LLAMA_SERVER_SLOTS_DEBUG=1``. ``tokens`` is the length of what the slot holds. ``prompt_tokens`` and
    ``answer_tokens`` count the work on the request ``task``: they grow while the server works.
    Source: llama-server b11434, tools/server.
    """

    number: int = 0
    task: int = 0
    busy: bool = False
    tokens: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    text: str = ""


def parse_slots(answer: object) -> tuple[Slot, ...]:
    """Return the slots in the JSON of ``GET /slots``. An idle slot has few other fields.

    Raises:
        ValueError: the answer is no list.
    """
    if not isinstance(answer, list):
        raise ValueError("no list of slots")  # noqa: TRY004 - what came over the wire is a value
    return tuple(_slot(entry) for entry in answer if isinstance(entry, dict))


def count(answer: object, name: str) -> int:
    """Return a whole number of a JSON table, 0 where there is none."""
    value = answer.get(name, 0) if isinstance(answer, dict) else 0
    return value if isinstance(value, int) else 0


def _slot(entry: dict[str, object]) -> Slot:
    prompt, generated, following = (
        entry.get("prompt", ""),
        entry.get("generated", ""),
        entry.get("next_token"),
    )
    first = following[0] if isinstance(following, list) and following else None
    return Slot(
        number=count(entry, "id"),
        task=count(entry, "id_task"),
        busy=entry.get("is_processing") is True,
        tokens=count(entry, "n_prompt_tokens"),
        prompt_tokens=count(entry, "n_prompt_tokens_processed"),
        answer_tokens=count(first, "n_decoded"),
        text=f"{prompt}{generated}" if isinstance(prompt, str) and isinstance(generated, str) else "",
    )
