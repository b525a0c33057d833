"""Where a request ends on a connection: what goes along to another program, byte for byte."""

import asyncio

import pytest

from qwenctl.gate.kept_streams import KeptStream, KeptStreams
from qwenctl.gate.passed_connection import BodySeen, RequestBoundary

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
EMPTY, FOUR = BodySeen(0, whole=True, framed=False), BodySeen(4, whole=True, framed=False)
NONE_YET, TWO = BodySeen(0, whole=False, framed=False), BodySeen(2, whole=False, framed=False)
Step = tuple[bytes, int, BodySeen]


@pytest.mark.parametrize(
    ("steps", "rest"),
    [
        ([], b""),
        ([(GET, 1, EMPTY)], b""),
        ([(GET[:9], 0, EMPTY)], GET[:9]),
        ([(GET[:9], 0, EMPTY), (GET[9:], 1, EMPTY)], b""),
        ([(GET[:-2], 0, EMPTY), (GET[-2:] + GET[:5], 1, EMPTY)], GET[:5]),
        ([(POST + b"body", 1, FOUR)], b""),
        ([(POST + b"body" + GET[:7], 1, FOUR)], GET[:7]),
        ([(POST, 1, NONE_YET)], b""),
        ([(POST + b"bo", 1, TWO), (b"dy", 0, FOUR)], b""),
        ([(POST + b"bo", 1, TWO), (b"dy" + GET[:3], 0, FOUR)], GET[:3]),
        ([(POST + b"bo", 1, TWO), (b"dy", 0, FOUR), (GET[:3], 0, FOUR)], GET[:3]),
        ([(CHUNKED + b"4\r\nbody\r\n0\r\n\r\n", 1, BodySeen(4, whole=True, framed=True))], b""),
        ([(CHUNKED + b"4\r\nbody\r\n0\r\n\r\nGET", 1, BodySeen(4, whole=True, framed=True))], None),
        ([(GET + GET, 2, EMPTY)], b""),
        ([(GET + GET + GET[:4], 2, EMPTY)], None),
        ([(GET + GET + GET[:4], 2, EMPTY), (GET[4:], 1, EMPTY)], b""),
    ],
)
def test_what_is_left_of_a_request_is_known_or_said_to_be_unknown(
    steps: list[Step], rest: bytes | None
) -> None:
    boundary = RequestBoundary()
    for data, heads, body in steps:
        boundary.note(data, heads, body)
    assert boundary.rest == rest


def test_every_way_to_cut_two_requests_leaves_the_same_bytes() -> None:
    """Each cut is a place where the connection may be passed on: what was read is what is passed on."""
    sent = GET + POST + b"body"
    for cut in range(1, len(GET)):
        boundary = RequestBoundary()
        boundary.note(sent[:cut], 0, EMPTY)
        assert boundary.rest == sent[:cut]
    for cut in range(len(GET), len(GET) + len(POST)):
        boundary = RequestBoundary()
        boundary.note(sent[:cut], 1, EMPTY)
        assert boundary.rest == sent[len(GET) : cut]


def test_a_finished_answer_is_kept_by_the_next_program_and_a_running_one_is_not_passed_on() -> None:
    async def story() -> None:
        one, other = KeptStreams(lambda _: True, lambda _: None), KeptStreams(lambda _: True, lambda _: None)

        async def finished(stream: KeptStream) -> None:
            stream.head = (200, "OK", [("Content-Type", "text/event-stream")])
            one.keep(stream, b"data: \xff\n\n")
            stream.finish()

        async def running(stream: KeptStream) -> None:
            stream.head = (200, "OK", [])
            await asyncio.Event().wait()

        first, second = one.begin("a", finished), one.begin("b", running)
        assert first.task is not None
        await first.task
        await asyncio.sleep(0)
        other.resume(one.finished())
        assert other.finished() == one.finished()
        assert [each.conversation for each in other.finished()] == ["a"]
        assert not second.done
        await one.close()

    asyncio.run(story())
