"""What is saved, restored and displaced, by value."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.engine.slot import Slot
from qwenctl.gate.slots import rules, shared_text
from qwenctl.gate.slots.conversations import ConversationBook
from qwenctl.gate.slots.placement import SlotChoice, SlotView, choose_slot
from qwenctl.gate.slots.request_digests import ParsedRequest, SharedDepth, parse_request
from qwenctl.gate.slots.restore_record import (
    AnswerEdges,
    RestoreRecord,
    SaveWay,
    cached_tokens,
    prompt_speed,
)
from qwenctl.gate.slots.rules import SlotHistory, Speeds
from qwenctl.gate.slots.snapshots import Manifest, Snapshot, promised_tokens, room_for
from qwenctl.gate.slots.store import SnapshotStore
from qwenctl.gate.slots.text_chain import chain_of

LINES = "".join(f"line {number}\n" for number in range(400))
ONE = Snapshot("slot-1.bin", SaveWay.ROLLED_BACK, 100, 80, 10, 1, chain_of("x"))


def asked(*texts: str, system: str = "") -> ParsedRequest:
    messages = [{"role": "user", "content": text} for text in texts]
    found = parse_request(
        "/v1/chat/completions", json.dumps({"messages": messages, "system": system}).encode()
    )
    assert found is not None
    return found


def view(number: int, owner: int | None = None, *, busy: bool = False, similar: float = 0.0) -> SlotView:
    return SlotView(number, busy, 0 if owner is None else 100, owner, owner or 0, similar)


@pytest.mark.parametrize(
    ("slots", "owner", "snapshot", "pinnable", "choice"),
    [
        pytest.param((view(0, 5), view(1, 6)), 6, True, True, SlotChoice(), id="it is live"),
        pytest.param((view(0, 5, busy=True),), 5, True, True, SlotChoice(), id="it is live and busy"),
        pytest.param((view(0, 5, busy=True),), None, False, True, SlotChoice(waits=True), id="all are busy"),
        pytest.param((view(0, busy=True),), None, False, True, SlotChoice(), id="all are busy with little"),
        pytest.param(
            (view(0, busy=True),), None, True, True, SlotChoice(waits=True), id="no place for it yet"
        ),
        pytest.param((view(0, 5), view(1)), None, True, True, SlotChoice(1), id="into an empty slot"),
        pytest.param((view(0, 6), view(1, 5)), None, True, True, SlotChoice(1, 1), id="into the oldest"),
        pytest.param(
            (view(0, 6, busy=True), view(1, 5), view(2, 4)),
            9,
            True,
            True,
            SlotChoice(2, 2),
            id="not into a busy",
        ),
        pytest.param(
            (view(0, 6, similar=0.8), view(1, 5)), None, True, True, SlotChoice(1, 1), id="beside a sibling"
        ),
        pytest.param(
            (view(0, 6, similar=0.8), view(1, 5)), None, True, False, SlotChoice(0, 0), id="where it is found"
        ),
        pytest.param((view(0, 6), view(1)), None, False, True, SlotChoice(), id="an empty slot is there"),
        pytest.param((view(0, 6), view(1, 5)), None, False, True, SlotChoice(None, 1), id="the oldest goes"),
        pytest.param(
            (view(0, 6, similar=0.8), view(1)),
            None,
            False,
            True,
            SlotChoice(None, 0),
            id="a similar one goes",
        ),
        pytest.param((), None, True, True, SlotChoice(), id="no slots"),
    ],
)
def test_a_request_takes_the_slot_that_costs_least(
    slots: tuple[SlotView, ...], owner: int | None, choice: SlotChoice, *, snapshot: bool, pinnable: bool
) -> None:
    assert choose_slot(slots, owner, has_snapshot=snapshot, pinnable=pinnable) == choice


def test_a_slot_is_kept_if_to_write_it_takes_less_time_than_to_read_it_anew() -> None:
    history = SlotHistory(rules.mark("a" * 900), faithful=True)
    speeds = Speeds(prompt_tokens_s=100, disk_bytes_s=1000)
    assert rules.is_worth_keeping(500, history, 4000, speeds)  # 5 s to read, 4 s to write
    assert not rules.is_worth_keeping(500, history, 6000, speeds)
    assert not rules.is_worth_keeping(200, history, 0, speeds), "too small to matter"
    partly = replace(history, saved=rules.mark("a"), saved_tokens=450)
    assert not rules.is_worth_keeping(500, partly, 4000, speeds), "only 50 tokens would be read anew"
    assert not rules.is_worth_keeping(500, replace(history, saved=history.turn), 0, speeds)


def test_the_least_recently_used_make_room() -> None:
    three = tuple(replace(ONE, file=f"{number}", used=number, bytes=30) for number in (2, 1, 3))
    assert room_for(three, 10, 100, 10_000) == (three[1], three[0], three[2])
    assert room_for(three, 30, 100, 10_000) == (three[0], three[2])
    assert room_for(three, 100, 100, 10_000) == ()
    assert room_for(three, 101, 100, 10_000) is None
    assert room_for(three, 30, 1000, 210) == (), "a tenth of the disk"


def test_a_promise_is_what_the_next_request_will_find() -> None:
    record = RestoreRecord()
    as_it_is, word = (replace(ONE, way=way) for way in (SaveWay.AS_IT_IS, SaveWay.WORD_FOR_WORD))
    assert promised_tokens(ONE, record, longer=False) == 100
    assert promised_tokens(word, record, longer=True) == 100
    assert promised_tokens(word, record, longer=False) == 0
    assert promised_tokens(as_it_is, record, longer=True) == 80
    assert promised_tokens(as_it_is, record.tried(goes_back=False, cuts=False), longer=True) == 0
    missed = record.judged(SaveWay.ROLLED_BACK, 100, 5)
    assert promised_tokens(ONE, missed, longer=True) == 0


def test_a_way_that_missed_is_not_taken_again() -> None:
    record = RestoreRecord(goes_back=True)
    assert record.takes(SaveWay.BEGINNING)
    missed = record.judged(SaveWay.BEGINNING, 1000, 10)
    assert not missed.takes(SaveWay.BEGINNING)
    assert missed.takes(SaveWay.ROLLED_BACK)
    kept = record.judged(SaveWay.BEGINNING, 1000, 900).judged(SaveWay.BEGINNING, 1000, 990)
    assert kept.judged(SaveWay.BEGINNING, 1000, 0).takes(SaveWay.BEGINNING), "kept more often than missed"
    assert record.judged(SaveWay.AS_IT_IS, 1000, 0).goes_back is False


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        (
            b'{"usage":{"prompt_tokens_details":{"cached_tokens": 7}},"timings":{"cache_n":7}}',
            7,
        ),
        (
            b'data: {"timings":{"cache_n":3427,"prompt_n":4,"prompt_ms":6.0}}\n\ndata: [DONE]\n\n',
            3427,
        ),
        (b'event: message_start\ndata: {"usage":{"cache_read_input_tokens":2427,"input_tokens":4}}', 2427),
        (b'{"response":{"usage":{"input_tokens_details":{"cached_tokens":0}}}}', 0),
        (b'data: {"content":"say \\"cached_tokens\\": 5"}', None),
        (b"", None),
    ],
)
def test_each_api_says_how_much_was_cached(answer: bytes, tokens: int | None) -> None:
    assert cached_tokens(answer) == tokens


def test_the_speed_of_a_prompt_is_measured_on_long_ones() -> None:
    assert prompt_speed(b'"timings":{"cache_n":0,"prompt_n":1000,"prompt_ms":500.0}') == 2000
    assert prompt_speed(b'"timings":{"cache_n":0,"prompt_n":4,"prompt_ms":5.0}') is None
    assert prompt_speed(b'"timings":{"cache_n":0,"prompt_n":1000,"prompt_ms":0.0}') is None


def test_the_edges_of_a_long_answer_are_kept_in_a_bounded_place() -> None:
    edges = AnswerEdges()
    edges.add(b"first")
    for _ in range(1000):
        edges.add(b"x" * 1000)
    edges.add(b"last")
    kept = edges.read()
    assert kept.startswith(b"first")
    assert kept.endswith(b"last")
    assert len(kept) < 40_000


def test_what_an_older_version_saved_is_removed_cleanly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = {
        "fingerprint": "f",
        "slots": [{"slot": 0, "file": "slot-0-a.bin", "tokens": 9, "bytes": 9, "history": {}}],
    }
    (tmp_path / "warm.json").write_text(json.dumps(old))
    (tmp_path / "slot-0-a.bin").write_bytes(b"x")
    store = SnapshotStore(tmp_path)
    assert store.read("f") == Manifest("f")
    assert [path.name for path in tmp_path.iterdir()] == ["warm.json"]
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    record = RestoreRecord(goes_back=True).judged(SaveWay.BEGINNING, 10, 10)
    whole = Manifest("f", (replace(ONE, depth=SharedDepth(1, 2, 3), request=asked("hi").digests),), record)
    store.write(whole)
    assert store.read("f") == whole
    assert store.read("g") == Manifest("g")


def test_conversations_are_found_in_the_slots_that_show_them() -> None:
    book = ConversationBook()
    first, second = asked("hello there"), asked("good morning")
    one, two = (book.send(each, None, None, 0.0) for each in (first, second))
    slots = (
        Slot(0, 7, tokens=5, text="user: good morning, bot: x"),
        Slot(1, 6, tokens=4, text="user: hello there"),
    )
    book.join(slots)
    assert (one.conversation.slot, two.conversation.slot) == (1, 0)
    assert one.landed
    one.done = two.done = True
    book.join(slots)
    assert not book.sent
    assert book.is_last_use(one.conversation)
    later = asked("hello there", "and?")
    assert book.match(later) is one.conversation
    sent = book.send(later, one.conversation, None, 1.0)
    assert not book.is_last_use(two.conversation), "the other may have taken its slot"
    sent.done = True
    book.join((replace(slots[0], task=9, text="user: hello there, user: and?"), slots[1]))
    assert (one.conversation.slot, two.conversation.slot) == (0, None)


def test_a_restored_slot_shows_its_old_text_until_it_is_used() -> None:
    book = ConversationBook()
    sent = book.send(asked("hello there"), None, None, 0.0)
    slot = Slot(0, 7, tokens=5, text="user: hello there")
    book.join((slot,))
    sent.done = True
    book.begin_with((replace(ONE, request=asked("good morning").digests),))
    restored = book.match(asked("good morning", "and?"))
    assert restored is not None
    book.put(restored, 0, slot.task)
    book.join((slot,))
    assert restored.slot == 0
    assert book.is_unused(slot)
    assert not book.is_unused(replace(slot, task=8))


def test_the_gate_itself_may_roll_a_slot_back_without_another_conversation() -> None:
    book = ConversationBook()
    start = LINES + "<|im_start|>user\nhi<|im_end|>\n"
    sent = book.send(asked("hi"), None, None, 0.0)
    sent.conversation.first = "hi"
    book.join((Slot(0, 1, tokens=900, text=start + "<|im_start|>assistant\n" + "a" * 9000),))
    sent.done, one = True, sent.conversation
    assert one.history is not None
    one.history = replace(one.history, rolled=rules.mark(start))
    book.join((Slot(0, 2, tokens=500, text=start + "v"),))
    assert book.in_slot(0) is one


def test_a_beginning_ends_where_sessions_were_seen_to_part() -> None:
    book = ConversationBook()
    texts = [f"{LINES}in {place}\n{LINES}<user>what is it?" for place in ("apples", "pears")]
    one, two = (
        book.send(asked("what is it?", system=text), None, number, 0.0)
        for number, text in enumerate(text.removesuffix("<user>what is it?") for text in texts)
    )
    book.join(tuple(Slot(number, number + 1, tokens=2000, text=text) for number, text in enumerate(texts)))
    both = (one.conversation, two.conversation)
    (found,) = shared_text.find_beginnings(texts[1], both[1], both[:1], 256)
    assert len(LINES) - 512 < found.chars <= len(LINES)
    assert texts[1][found.chars - 1] == "\n"
    (alone,) = shared_text.find_beginnings(texts[1], both[1], (), 256)
    assert texts[1][: alone.chars].endswith("\n")
    assert alone.chars == texts[1].index("<user>")
    made = (replace(ONE, text=chain_of(texts[1][: found.chars])),)
    assert shared_text.is_covered(found.chars, both[1].text, made)
    assert not shared_text.is_covered(alone.chars, both[1].text, made)


def test_tokens_that_depend_on_what_follows_are_no_part_of_a_beginning() -> None:
    assert shared_text.common_tokens([1, 2, 3, 4], [1, 2, 9]) == [1, 2]
    assert shared_text.common_tokens([1, 2, 3, 4], [1, 2]) == [1, 2]
    assert shared_text.common_tokens([], [1]) == []


def test_a_long_beginning_is_saved_in_steps_that_grow() -> None:
    text = "x" * 100_000
    cuts, done = [], 0
    while done < len(text):
        done = shared_text.next_cut(text, len(text), done, 10_000)
        cuts.append(done)
    assert cuts == [10_000, 20_000, 30_000, 45_000, 67_500, 100_000] or sum(cuts) <= 3 * len(text)
    assert shared_text.next_cut(text, 12_000, 0, 10_000) == 12_000, "no step for a short rest"


def test_a_part_of_a_beginning_is_gone_on_with() -> None:
    parts = tuple(replace(ONE, file=f"{chars}", text=chain_of(LINES[:chars])) for chars in (600, 2000))
    other = replace(ONE, text=chain_of("#" * 3000))
    found = shared_text.longest_part(chain_of(LINES), (*parts, other))
    assert found == parts[1]
    assert shared_text.longest_part(chain_of("+" * 900), (*parts, other)) is None
