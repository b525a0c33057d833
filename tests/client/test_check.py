"""check: on the real server for the mechanics, on scripted answers for the abilities."""

from collections.abc import Sequence

import pytest

from qwenctl.client.check.model_checks import MODEL_CHECKS
from qwenctl.client.check.protocol_checks import PROTOCOL_CHECKS
from qwenctl.client.check.run_checks import Expected, Item, ItemVerdict, run
from qwenctl.client.openai_api import Api
from tests.fakes.home import Home
from tests.fakes.openai_server import Break, Refuse, Say, Step, serving

LRU = '''Here it is:
```python
from collections import OrderedDict

FENCE = """
```not a block
"""

class LRUCache:
    def __init__(self, capacity):
        self.capacity, self.kept = capacity, OrderedDict()
    def get(self, key):
        if key not in self.kept:
            return -1
        self.kept.move_to_end(key)
        return self.kept[key]
    def put(self, key, value):
        self.kept[key] = value
        self.kept.move_to_end(key)
        if len(self.kept) > self.capacity:
            self.kept.popitem(last=False)
```
'''
CALL = {"id": "c", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
GATHER = (
    "import asyncio\nasync def fetch_all(fetch, urls):\n    return await asyncio.gather(*map(fetch, urls))"
)
ONE_BY_ONE = "async def fetch_all(fetch, urls):\n    return [await fetch(url) for url in urls]"


def one(name: str, script: Sequence[Step], expected: Expected | None = None) -> Item:
    with serving(script) as server, Api(server.url) as api:
        checks = {**PROTOCOL_CHECKS, **MODEL_CHECKS}
        (item,) = run(api, expected or Expected(), {name: checks[name]})
    return item


def test_the_demo_model_passes_every_check_of_the_mechanics_and_chats(home: Home) -> None:
    home.up("--ctx", "1024")
    ran = home.json("check", "--mechanics")
    assert [item["name"] for item in ran["data"]["items"]] == list(PROTOCOL_CHECKS)
    assert [item for item in ran["data"]["items"] if item["verdict"] != "pass"] == []
    assert home.json("chat", "hi")["data"]["generated_tokens"] >= 1


def test_random_weights_are_not_judged_by_their_abilities() -> None:
    for name in MODEL_CHECKS:
        assert one(name, [Say()], Expected(random=True)).verdict == "not judged"


def test_without_an_endpoint_it_says_so(bare_home: Home) -> None:
    assert bare_home.run("check").code == 3
    assert "--url" in bare_home.run("check").err


@pytest.mark.parametrize(
    ("name", "script", "verdict"),
    [
        ("an LRU cache", [Say(LRU)], "pass"),
        ("an LRU cache", [Say(LRU.replace("last=False", "last=True"))], "wrong"),
        ("an LRU cache", [Say("I cannot write code.")], "wrong"),
        ("an LRU cache", [Say("```python\nclass LRUCache:")], "wrong"),
        ("a function made asynchronous", [Say(f"```py\n{GATHER}\n```")], "pass"),
        ("a function made asynchronous", [Say(f"```py\n{ONE_BY_ONE}\n```")], "wrong"),
        ("chickens and rabbits", [Say("So:\n**chickens=23 rabbits=12**")], "pass"),
        ("chickens and rabbits", [Say("chickens=12 rabbits=23")], "wrong"),
        ("thinking apart from the answer", [Say("391", "17 * 23 = 391")], "pass"),
        ("thinking apart from the answer", [Say("<think>17 * 23</think>391")], "fail"),
        ("thinking apart from the answer", [Say("391")], "not judged"),
        ("a tool, there and back", [Say("", calls=(CALL,)), Say("17 degrees and hail")], "pass"),
        ("a tool, there and back", [Say("It is sunny.")], "wrong"),
        ("a tool, there and back", [Break("half"), Say()], "fail"),
        ("an answer", [Refuse(500, "broken")], "fail"),
        ("an answer", [Say("hi", finish="nonsense")], "fail"),
        ("a request with tools", [Refuse(500), Say("no call")], "pass"),
        ("a request with tools", [Say(calls=({"function": {"name": "weather", "arguments": "{"}},))], "fail"),
        ("JSON by a schema", [Say('{"city": "Paris", "days": 3, "sunny": true}')], "pass"),
        ("JSON by a schema", [Say('{"city": "Bonn", "days": 3, "sunny": true}')], "fail"),
        ("characters of several bytes", [Say('{"it": "gr\ufffd\ufffdße"}')], "fail"),
        ("two at once", [Say('{"it": "answer-0"}')], "fail"),
        ("half the context", [Say()], "not judged"),
    ],
)
def test_a_check_tells_a_right_answer_from_a_wrong_one(
    name: str, script: list[Step], verdict: ItemVerdict
) -> None:
    item = one(name, script)
    assert item.verdict == verdict, item.evidence
    assert item.evidence


def test_a_prompt_that_is_cut_and_sampling_that_differs_are_found() -> None:
    props = {"default_generation_settings": {"n_ctx": 4096, "params": {"temperature": 0.8}}}
    with serving([Say()], {"/props": props}) as server, Api(server.url) as api:
        expected = Expected("scripted", 4096, (("temperature", 0.6),))
        items = {item.name: item for item in run(api, expected, PROTOCOL_CHECKS)}
    assert items["sampling as planned"].evidence == "the plan says temperature 0.6, the server has 0.8"
    assert items["model and context as planned"].verdict == "pass"
    other = one("model and context as planned", [Say()], Expected("qwen"))
    assert other.evidence == "the plan says qwen, the server has scripted"
