"""chat: conversations by value, pipes and a real terminal by the installed command."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from qwenctl.client.answer import Piece
from qwenctl.client.chat import GO_ON, Conversation, speed_of
from qwenctl.client.openai_api import Api
from tests.fakes.home import Home
from tests.fakes.openai_server import Break, Refuse, Say, Stall, Step, serving

WITHIN_S = 20


def nothing(_piece: Piece) -> None:
    """Show nothing."""


def test_a_conversation_is_sent_back_word_for_word_with_its_thinking() -> None:
    with serving([Say("eins", reasoning="hm"), Say("zwei")]) as server, Api(server.url) as api:
        conversation = Conversation("show", "be brief")
        conversation.ask(api, "one?", nothing)
        conversation.ask(api, "two?", nothing)
    assert server.asked[1]["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one?"},
        {"role": "assistant", "content": "eins", "reasoning_content": "hm"},
        {"role": "user", "content": "two?"},
    ]
    conversation.forget()
    assert conversation.messages == [{"role": "system", "content": "be brief"}]


def test_an_answer_that_broke_off_is_kept_and_goes_on() -> None:
    with serving([Break("half of it"), Say("wer")]) as server, Api(server.url) as api:
        conversation = Conversation("hide")
        first = conversation.ask(api, "one?", nothing)
        assert first.broken is not None
        second = conversation.go_on(api, nothing)
    assert second.answer.text == "wer"
    assert [message["content"] for message in server.asked[1]["messages"]] == ["one?", "half of it", GO_ON]


def test_a_question_without_an_answer_is_taken_back() -> None:
    with serving([Refuse(503), Say("yes")]) as server, Api(server.url) as api:
        conversation = Conversation("hide")
        assert conversation.ask(api, "one?", nothing).broken is not None
        assert conversation.messages == []
        assert conversation.ask(api, "one?", nothing).answer.text == "yes"


def test_a_stopped_answer_stays_as_far_as_it_came() -> None:
    def stop(piece: Piece) -> None:
        if "two" in piece.text:
            raise KeyboardInterrupt

    with serving([Say("one\ntwo\nthree\n")]) as server, Api(server.url) as api:
        conversation = Conversation("hide")
        turn = conversation.ask(api, "count", stop)
    assert turn.stopped
    assert conversation.messages[-1]["content"] == "one\ntwo\n"


def test_thinking_off_is_asked_for() -> None:
    with serving([Say("yes")]) as server, Api(server.url) as api:
        Conversation("off").ask(api, "one?", nothing)
        Conversation("hide").ask(api, "one?", nothing)
    assert server.asked[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in server.asked[1]


def test_the_speed_is_told_by_the_server_if_it_does() -> None:
    timings = {"cache_n": 0, "prompt_n": 20, "prompt_ms": 100, "predicted_n": 11, "predicted_ms": 500}
    with serving([Say("one two", timings=timings)]) as server, Api(server.url) as api:
        assert "2 tokens, 20.0 tokens/s, first after" in speed_of(api.answer({"messages": []}))


def test_a_pipe_gets_the_answer_on_stdout_and_nothing_else(bare_home: Home) -> None:
    with serving([Say("the answer", reasoning="thoughts")]) as server:
        done = subprocess.run(
            [sys.executable, "-m", "qwenctl", "chat", "Summarize", "--url", server.url],
            input="a long text",
            env=bare_home.environment,
            cwd=bare_home.path,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=True,
        )
        hidden = bare_home.run("chat", "x", "--thinking", "hide", "--url", server.url)
        told = bare_home.json("chat", "x", "--url", server.url)
    assert done.stdout == "the answer\n"
    assert "thoughts" in done.stderr
    assert server.asked[0]["messages"][-1]["content"] == "Summarize\n\na long text"
    assert "thoughts" not in hidden.err
    assert told["data"]["answer"] == "the answer"
    assert told["data"]["reasoning"] == "thoughts"


def test_a_broken_answer_fails_and_json_keeps_what_came(bare_home: Home) -> None:
    with serving([Break("half")]) as server:
        told = bare_home.json("chat", "x", "--url", server.url)
        assert bare_home.run("chat", "x", "--url", server.url).code == 1
    assert told["ok"] is False
    assert told["data"] == {"answer": "half", "reasoning": ""}


class Terminal:
    """A person at a terminal: type, and wait for words."""

    def __init__(self, master: int, process: "subprocess.Popen[bytes]") -> None:
        self._master, self._seen = master, ""
        self.process = process

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self, words: str) -> None:
        """Press Ctrl-C until it shows: a signal just before readline waits is noticed with the next one."""
        for _ in range(40):
            self.process.send_signal(signal.SIGINT)
            if select.select([self._master], [], [], 0.5)[0]:
                break
        self.wait_for(words)

    def wait_for(self, words: str) -> None:
        give_up_at = time.monotonic() + WITHIN_S
        while words not in self._seen:
            assert time.monotonic() < give_up_at, f"no {words!r} in {self._seen!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                self._seen += os.read(self._master, 4096).decode(errors="replace")
        self._seen = self._seen.partition(words)[2]


@contextmanager
def terminal(home: Home, *arguments: str) -> Iterator[Terminal]:
    """Run a command on a terminal of its own; end it by its id if it is still there."""
    master, slave = pty.openpty()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # one that is ignored is inherited
    process = subprocess.Popen(
        [sys.executable, "-m", "qwenctl", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**home.environment, "TERM": "dumb"},
        cwd=home.path,
        start_new_session=True,
    )
    signal.signal(signal.SIGINT, before)
    os.close(slave)
    try:
        yield Terminal(master, process)
        process.wait(WITHIN_S)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_a_conversation_on_a_terminal_survives_a_restart_of_the_server(home: Home) -> None:
    script: list[Step] = [Say("first answer"), Break("half an"), Say("other half"), Say("many lines")]
    with serving(script) as server, terminal(home, "chat", "--url", server.url) as person:
        person.wait_for("> ")
        person.type("hello\n")
        person.wait_for("first answer")
        person.wait_for("> ")
        person.type("again\n")
        person.wait_for("/go asks for the rest")
        person.wait_for("> ")
        person.type("/go\n")
        person.wait_for("other half")
        person.wait_for("> ")
        person.type('"""\none\ntwo\n"""\n')
        person.wait_for("many lines")
        person.wait_for("> ")
        person.type("\x04")
    assert person.process.returncode == 0
    assert server.asked[3]["messages"][-1]["content"] == "one\ntwo"


def test_ctrl_c_stops_the_answer_and_not_the_program(bare_home: Home) -> None:
    with (
        serving([Stall("a long story"), Say("another")]) as server,
        terminal(bare_home, "chat", "--url", server.url) as person,
    ):
        person.wait_for("> ")
        person.interrupt("> ")  # at the prompt: drops the line
        person.type("tell\n")
        person.wait_for("a long story")
        person.process.send_signal(signal.SIGINT)
        person.wait_for("stopped")
        assert server.left.wait(WITHIN_S)  # the server was left, so it stops its work
        person.wait_for("> ")
        person.type("more\n")
        person.wait_for("another")
        person.wait_for("> ")
        person.type("\x04")
    assert person.process.returncode == 0
