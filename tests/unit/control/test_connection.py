"""Limits and timeouts of one conversation, on memory streams and a clock that jumps."""

from collections.abc import AsyncGenerator

import pytest
import trio
from trio.testing import (
    MemoryReceiveStream,
    MemorySendStream,
    MockClock,
    lockstep_stream_pair,
    memory_stream_pair,
)

from dittofs.control.answering import HEARTBEAT_S
from dittofs.control.connection import DRAIN_BYTES_MAX, Connection, Limits
from dittofs.control.server import converse
from tests.unit.control.http_text import parse, read_all, talk
from tests.unit.control.small_service import SmallService

Stream = trio.StapledStream[MemorySendStream, MemoryReceiveStream]
LIMITS = Limits()


@pytest.fixture
async def client(service: SmallService, nursery: trio.Nursery) -> AsyncGenerator[Stream, None]:
    near, far = memory_stream_pair()
    nursery.start_soon(converse, service, Connection(far, LIMITS))
    yield near
    nursery.cancel_scope.cancel()


async def test_a_head_above_its_limit_is_refused(client: Stream) -> None:
    status, failure = await talk(client, b"GET /v1/health HTTP/1.1\r\nx: " + b"y" * LIMITS.head_bytes_max)
    assert (status, failure["error"]) == (431, "head_too_large")


async def test_a_json_body_above_its_limit_is_refused_before_it_is_held(client: Stream) -> None:
    head = b"POST /v1/mount HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n"
    status, failure = await talk(client, head + b" " * 9_000_000)
    assert (status, failure["error"]) == (413, "too_large")


async def test_http_1_0_is_refused_since_a_cut_reply_would_look_whole(client: Stream) -> None:
    status, failure = await talk(client, b"GET /v1/health HTTP/1.0\r\n\r\n")
    assert (status, failure["error"]) == (400, "bad_request")


async def test_a_head_that_dribbles_is_ended_by_its_deadline(
    client: Stream, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def dribble() -> None:
        for byte in b"GET /v1/health HTTP/1.1\r\n" * 100:
            try:
                await client.send_all(bytes([byte]))
            except trio.BrokenResourceError:
                return
            await trio.sleep(LIMITS.head_s / 10)

    nursery.start_soon(dribble)
    began = autojump_clock.current_time()
    status, failure = parse(await read_all(client))
    assert (status, failure["error"]) == (408, "too_slow")
    assert autojump_clock.current_time() - began < LIMITS.head_s + 5


async def test_an_idle_connection_is_closed_without_a_word(client: Stream, autojump_clock: MockClock) -> None:
    began = autojump_clock.current_time()
    assert await read_all(client) == b""
    assert autojump_clock.current_time() - began == pytest.approx(LIMITS.idle_s)


async def test_a_body_that_stalls_is_ended(
    client: Stream, service: SmallService, autojump_clock: MockClock
) -> None:
    head = b"PUT /v1/file?volume=Shared&path=a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
    await client.send_all(head + b"half")
    began = autojump_clock.current_time()
    status, failure = parse(await read_all(client))
    assert (status, failure["error"]) == (408, "too_slow")
    assert autojump_clock.current_time() - began >= LIMITS.piece_s
    assert service.files == {}


async def test_a_client_that_reads_nothing_is_let_go(
    service: SmallService, autojump_clock: MockClock
) -> None:
    service.files[b"big"] = bytes(1 << 20)
    near, far = lockstep_stream_pair()  # sending waits until the other side has taken it all
    async with trio.open_nursery() as nursery:
        nursery.start_soon(converse, service, Connection(far, LIMITS))
        await near.send_all(b"GET /v1/file?volume=Shared&path=big HTTP/1.1\r\nHost: x\r\n\r\n")
    assert service.open_streams == 0
    assert autojump_clock.current_time() >= LIMITS.send_s
    await near.aclose()


async def test_an_upload_may_wait_to_be_told_to_go_on(client: Stream, service: SmallService) -> None:
    head = b"PUT /v1/file?volume=Shared&path=a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    await client.send_all(head + b"Content-Length: 3\r\n\r\n")
    assert (await client.receive_some(1000)).startswith(b"HTTP/1.1 100 ")
    await client.send_all(b"abc")
    assert (await client.receive_some(1000)).startswith(b"HTTP/1.1 200 ")
    assert service.files == {b"a": b"abc"}


async def test_a_refused_sender_may_finish_within_bounds(client: Stream, service: SmallService) -> None:
    service.files[b"a"] = b"kept"
    head = b"PUT /v1/file?volume=Shared&path=a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
    await client.send_all(head)
    status, failure = parse(bytes(await client.receive_some(10_000)))
    assert (status, failure["error"]) == (409, "exists")
    await client.send_all(bytes(DRAIN_BYTES_MAX - 10))
    assert await client.receive_some(10) == b""  # its end, and no reset while it may still send


async def test_listeners_hear_that_the_daemon_lives_when_nothing_happens(
    client: Stream, autojump_clock: MockClock
) -> None:
    await client.send_all(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    received = b""
    began = autojump_clock.current_time()
    while received.count(b'{"type":"alive"}') < 3:
        received += await client.receive_some(1000)
    assert autojump_clock.current_time() - began == pytest.approx(2 * HEARTBEAT_S)


async def test_a_second_body_is_never_taken_for_a_request(client: Stream, service: SmallService) -> None:
    service.files[b"a"] = b"kept"
    hidden = b"PUT /v1/file?volume=Shared&path=evil HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    head = b"PUT /v1/file?volume=Shared&path=a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(
        hidden
    )
    await client.send_all(head)
    await client.send_all(hidden)
    reply = await read_all(client)
    assert parse(reply)[0] == 409
    assert b"connection: close\r\n" in reply.lower()
    assert service.files == {b"a": b"kept"}


@pytest.mark.parametrize(
    "query",
    [
        b"volume=Shared&path=%FF",
        b"volume=Shared&path",
        b"volume=Shared&path=a&path=b",
        b"volume=Shared&path=a&offset=x",
        b"volume=Shared&path=a&offset=-1",
        b"volume=Shared&path=a&path_raw=!",
        b"volume=Shared&path=a%00",
        b"path=a",
        b"&".join(b"x%d=1" % number for number in range(40)),
        b"",
    ],
)
async def test_a_query_that_is_not_understood_is_a_usage_error(client: Stream, query: bytes) -> None:
    status, failure = await talk(client, b"GET /v1/file?" + query + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, failure["error"]) == (400, "usage")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 9000, b'{"path":1}', b'{"path":"/\xff"}', b"{}"])
async def test_a_body_that_is_not_understood_is_a_usage_error(client: Stream, body: bytes) -> None:
    head = b"POST /v1/mount HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    status, failure = await talk(client, head + body)
    assert (status, failure["error"]) == (400, "usage")
