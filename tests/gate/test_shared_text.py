"""The beginnings kept for the next session: by value, on requests built as real agents build theirs."""

import json
import os
from dataclasses import replace

import pytest

from qwenctl.engine.slot import Slot
from qwenctl.gate.slots import shared_text
from qwenctl.gate.slots.conversations import ConversationBook, KnownConversation
from qwenctl.gate.slots.request_digests import ParsedRequest, parse_request, reaches
from qwenctl.gate.slots.restore_record import SaveWay
from qwenctl.gate.slots.snapshots import Snapshot
from qwenctl.gate.slots.text_chain import BLOCK_CHARS, chain_of

LEAST = 1024
HOMES = "/tmp/homes"


def lines(what: str, chars: int) -> str:
    return "".join(f"{what} {number}\n" for number in range(chars))[:chars]


def tool(name: str, description: str, chars: int) -> dict[str, object]:
    return {
        "type": "function",
        "function": {"name": name, "description": description + lines(name, chars), "parameters": {}},
    }


class Agent:
    """A client: what it sends in a folder, and the prompt that a template makes of it: the tools first."""

    def __init__(self, kind: str, folder: str, question: str, salt: str = "") -> None:
        tools = [tool("run", "", 9000), tool("edit", "", 9000)]
        system, user = [lines("rule", 6000)], [question]
        if kind == "a path as an example in a tool, the folder late in the system text":
            tools = [tool("run", f"Write to {HOMES}/scratch.", 9000), tool("edit", "", 12000)]
            system = [lines("rule", 8700) + f"<env>\n  Working directory: {folder}\n" + lines("env", 700)]
        elif kind == "a home in the second system message, the folder in a user's":
            system = [lines("rule", 17000), f"- roots: {HOMES}/skills\n" + lines("skill", 2400)]
            user = [f"<context>\n  <cwd>{folder}</cwd>\n{lines('context', 300)}", question]
        elif kind == "a count of the first message before all":
            system = [f"x-header: cc_version=2.1.197.{salt}; entry=x;", lines("rule", 6000) + folder]
        self.first = user[0]
        messages = [{"role": "developer", "content": text} for text in system]
        messages += [{"role": "user", "content": text} for text in user]
        body = json.dumps({"messages": messages, "tools": tools}).encode()
        found = parse_request("/v1/chat/completions", body)
        assert found is not None
        self.asked: ParsedRequest = found
        told = "".join(json.dumps(each) + "\n" for each in tools)
        self.text = f"<tools>\n{told}</tools>\n{''.join(system)}<end>\n" + "".join(
            f"<user>\n{t}" for t in user
        )

    def known(self, number: int = 0) -> KnownConversation:
        book = ConversationBook()
        sent = book.send(self.asked, None, number, 0.0)
        book.join((Slot(number, number + 1, tokens=len(self.text), text=self.text),))
        return sent.conversation


KINDS = (
    "a path as an example in a tool, the folder late in the system text",
    "a home in the second system message, the folder in a user's",
    "a count of the first message before all",
    "nothing that changes",
)


def served(first: Agent, second: Agent) -> int:
    """How many characters of the second session are kept from the first one alone."""
    found = shared_text.find_beginnings(first.text, first.known(), (), LEAST)
    assert [each.chars for each in found] == sorted(each.chars for each in found)
    usable = [each for each in found if reaches(second.asked.digests, each.request, each.depth)]
    for each in usable:
        assert first.text[: each.chars - BLOCK_CHARS] == second.text[: each.chars - BLOCK_CHARS]
    return max((each.chars for each in usable), default=0)


@pytest.mark.parametrize("folder", [f"{HOMES}/project-1", f"{HOMES}/project-2"], ids=["same", "other"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_second_session_reads_at_most_a_twentieth_of_the_common_part(kind: str, folder: str) -> None:
    first = Agent(kind, f"{HOMES}/project-1", "what is it?", "26b")
    second = Agent(kind, folder, "add two numbers", "fdd")
    common = len(os.path.commonprefix([first.text, second.text]))  # noqa: RUF071 - of texts
    assert common * 0.95 <= served(first, second) <= common


def test_where_a_template_shows_other_words_only_sure_guesses_are_made() -> None:
    first = Agent(KINDS[0], f"{HOMES}/project-1", "what is it?")
    known = first.known()
    text = first.text.replace("Working directory: /", "Working directory: ")
    found = shared_text.find_beginnings(text, known, (), LEAST)
    assert [each.depth for each in found] == [known.stable.whole]


def test_nothing_is_made_behind_what_every_session_changes() -> None:
    first = Agent(KINDS[2], f"{HOMES}/project-1", "what is it?", "26b")
    (found,) = shared_text.find_beginnings(first.text, first.known(), (), LEAST)
    assert found.chars <= first.text.index("cc_version")


def test_one_session_makes_a_few_beginnings_at_most() -> None:
    first = Agent("", "", "what is it?")
    places = "".join(f"see {HOMES}/p{number}\n{lines('rule', 3000)}" for number in range(20))
    messages = [{"role": "system", "content": places}, {"role": "user", "content": "what is it?"}]
    found = parse_request("/v1/chat/completions", json.dumps({"messages": messages}).encode())
    assert found is not None
    first.asked, first.text = found, f"<system>\n{places}<user>\nwhat is it?"
    made = shared_text.find_beginnings(first.text, first.known(), (), LEAST)
    assert len(made) == shared_text.MAX_GUESSES
    assert made[-1].depth == found.stable.whole


def test_a_guess_that_was_too_short_is_made_longer_once_two_sessions_were_seen() -> None:
    """It was 8 % short, which each later session would read anew."""
    agents = [Agent("nothing that changes", "", text) for text in ("what is it?", "add two numbers")]
    one, two = (each.known() for each in agents)
    (seen,) = shared_text.find_beginnings(agents[1].text, two, (one,), LEAST)
    short = chain_of(agents[1].text[: seen.chars * 92 // 100])
    made = Snapshot("slot-1.bin", SaveWay.BEGINNING, 1, 1, 1, 1, short)
    assert not shared_text.is_covered(seen.chars, two.text, (made,))
    whole = replace(made, text=chain_of(agents[1].text[: seen.chars]))
    assert shared_text.is_covered(seen.chars, two.text, (whole,))
