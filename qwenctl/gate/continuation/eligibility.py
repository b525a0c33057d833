"""Whether the stream that a request asks for could be finished by another server. Pure: no I/O.

Another server gets the text so far as the beginning of the answer. What is no text, or what says more about
each token than its text, can't be given back. A grammar or a schema begins anew on the rest, except where
llama-server puts the text so far through it first: a schema of a chat. Source: llama.cpp b11434 and b11549,
common/sampling.cpp (``common_grammar_needs_prefill``), and measured: for ``/completion`` the later one does
not take the text so far any more.
"""

from typing import Any

ONE_ANSWER = ("n", "n_cmpl", "best_of")
TOKEN_DETAILS = ("logprobs", "top_logprobs", "n_probs")
GRAMMARS = ("grammar", "json_schema")


def cannot_continue(kind: str, asked: dict[str, Any]) -> str | None:
    """Return why a stream of this kind can't be continued; None if it can, as far as the request shows."""
    if any(isinstance(asked.get(name), int) and asked[name] > 1 for name in ONE_ANSWER):
        return "several answers"
    if any(asked.get(name) for name in TOKEN_DETAILS):
        return "details of each token"
    if asked.get("grammar") or (kind in ("text", "native") and any(asked.get(name) for name in GRAMMARS)):
        return "a grammar would begin anew"
    if asked.get("response_format") and kind in ("text", "native"):
        return "a grammar would begin anew"
    if asked.get("echo") or asked.get("continue_final_message"):
        return "the answer continues a text"
    if asked.get("reasoning_format") in ("none", "deepseek-legacy"):
        return "the reasoning is not told from the answer"
    turns = asked.get("input" if kind == "responses" else "messages")
    if kind in ("chat", "messages"):
        if not isinstance(turns, list) or not turns or not isinstance(turns[-1], dict):
            return "no messages"
        return "the answer continues a text" if turns[-1].get("role") == "assistant" else None
    if kind == "responses":
        return _why_not_input(turns)
    return _why_not_prompt(asked.get("prompt"))


def _why_not_input(turns: object) -> str | None:
    if isinstance(turns, str):
        return None
    if not isinstance(turns, list) or not turns or not isinstance(turns[-1], dict):
        return "no input"
    last = turns[-1]
    continues = last.get("role") == "assistant" or last.get("type") in ("reasoning", "function_call")
    return "the answer continues a text" if continues else None


def _why_not_prompt(prompt: object) -> str | None:
    if isinstance(prompt, str):
        return None
    tokens = isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt)
    return None if tokens else "several prompts, or one of another form"
