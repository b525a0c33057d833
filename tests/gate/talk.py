"""A conversation over several turns; its client sends answers back word for word or without the reasoning."""

from dataclasses import dataclass, field
from typing import Any

import aiohttp

LETTERS = tuple(word for token in range(64, 90) for word in ("--logit-bias", f"{token}+100"))
"""Flags that make the random model write a to z, so that an answer can be sent back word for word."""
TEMPLATE = (
    "{%- if tools %}{{- '<|im_start|>system\\n' }}{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}"
    "{{- '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.reasoning_content %}"
    "{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}"
    "{%- endif %}"
    "{{- message.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"
)
"""It thinks, and what it thought is kept in the prompt; knows tools."""
FLAGS = (*LETTERS, "--chat-template", TEMPLATE)
TOOL = {
    "type": "object",
    "properties": {"path": {"type": "string", "description": "which file"}},
    "required": ["path"],
}


@dataclass
class Talk:
    """One client. ``cached`` and ``processed``: tokens of the last request's prompt."""

    url: str
    session: aiohttp.ClientSession
    faithful: bool
    anthropic: bool = False
    tools: bool = False
    messages: list[dict[str, Any]] = field(default_factory=list)
    cached: int = 0
    processed: int = 0

    async def say(self, text: str, tokens: int = 24) -> None:
        """Send a message and keep the answer in this client's way."""
        self.messages.append({"role": "user", "content": text})
        body: dict[str, Any] = {"messages": self.messages, "max_tokens": tokens}
        if self.tools and self.anthropic:
            body["tools"] = [{"name": "read", "description": "Read a file.", "input_schema": TOOL}]
        elif self.tools:
            function = {"name": "read", "description": "Read a file.", "parameters": TOOL}
            body["tools"] = [{"type": "function", "function": function}]
        path = "/v1/messages" if self.anthropic else "/v1/chat/completions"
        async with self.session.post(self.url + path, json=body) as answer:
            assert answer.status == 200, await answer.text()
            told = await answer.json()
        said = self._read(told)
        self.messages.append(said if self.faithful else {"role": "assistant", "content": "short"})

    def _read(self, told: dict[str, Any]) -> dict[str, Any]:
        usage = told["usage"]
        if self.anthropic:
            self.cached, self.processed = usage["cache_read_input_tokens"], usage["input_tokens"]
            return {"role": "assistant", "content": told["content"]}
        self.cached = usage["prompt_tokens_details"]["cached_tokens"]
        self.processed = usage["prompt_tokens"] - self.cached
        message: dict[str, Any] = told["choices"][0]["message"]
        return message
