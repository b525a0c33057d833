"""Make prompts of a given length in tokens. Asks the endpoint how many tokens a text has."""

from qwenctl.client.answer import Table
from qwenctl.client.openai_api import Api
from qwenctl.errors import ClientError

SAMPLE_ITEMS = 10


def user(content: str) -> list[Table]:
    """Return a conversation of one question."""
    return [{"role": "user", "content": content}]


def long_text(items: int, first: int = 1000) -> str:
    """Return a question with ``items`` different lines, so that no cache has them."""
    lines = (f"{n}: shelf {n * 7 % 1000} holds {n * 13 % 97} boxes." for n in range(first, first + items))
    return "How many boxes are there in total?\n" + "\n".join(lines)


def items_for(api: Api, tokens: int) -> int:
    """Return how many items of ``long_text`` make about ``tokens`` tokens on this server.

    Raises:
        ClientError: the server does not count its prompt's tokens.
    """
    if tokens < SAMPLE_ITEMS:
        return 0
    items, empty = SAMPLE_ITEMS, _count(api, 0)
    per_item = (_count(api, items) - empty) / items
    if per_item <= 0:
        raise ClientError(f"cannot size a prompt for {api.url}: it counts no more tokens for a longer prompt")
    return max(0, int((tokens - empty) / per_item))


def _count(api: Api, items: int) -> int:
    answer = api.ask({"messages": user(long_text(items)), "max_tokens": 1})
    if not answer.prompt_tokens:
        raise ClientError(f"cannot size a prompt for {api.url}: it does not count prompt tokens")
    return answer.prompt_tokens
