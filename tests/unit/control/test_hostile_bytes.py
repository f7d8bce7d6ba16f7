"""Any bytes give a 4xx or a closed connection, and the server lives."""

import re
from pathlib import Path

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from dittofs.control.client import Client
from dittofs.control.connection import Connection, Limits
from dittofs.control.routes import ROUTES
from dittofs.control.server import converse, serve
from tests.unit.control.http_text import read_all
from tests.unit.control.small_service import SmallService

SMALL = Limits(head_bytes_max=4096, idle_s=5, head_s=1, piece_s=1, send_s=1)
STATUS = re.compile(rb"^HTTP/1\.1 (\d\d\d)", re.MULTILINE)

values = st.one_of(
    st.binary(max_size=12), st.sampled_from([b"Shared", b"-1", b"%FF", b"%2e%2e", b"1e99", b"a", b"null"])
)
names = st.sampled_from([b"volume", b"path", b"path_raw", b"offset", b"length", b"size", b"mode", b"x"])
queries = st.one_of(
    st.just(b""),
    st.binary(max_size=60).map(lambda raw: b"?" + raw),
    st.lists(st.tuples(names, values), max_size=5).map(lambda pairs: b"?" + b"&".join(map(b"=".join, pairs))),
)
header_lines = [
    b"Content-Length: 5",
    b"Content-Length: -5",
    b"Content-Length: 99999999999999999999",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Expect: 100-continue",
    b"Connection: close",
    b"Connection: upgrade",
    b"\x00: \xff",
    b"x" * 5000,
]
bodies = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(
        [
            b'{"path":"/x"}',
            b'{"path":"/\\ud800"}',
            b'{"volume":"Shared"}',
            b'{"path":"/x","path_raw":"AA=="}',
            b"[" * 5000,
            b'{"path":' + b"[" * 5000,
            b"5\r\nhello\r\n0\r\n\r\n",
            b"ffffffffffffffff\r\n",
            b'{"volume":"Shared","ids":["\xff"]}',
        ]
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Nearly a request: each part is right or not."""
    method = draw(st.sampled_from([b"GET", b"GET", b"POST", b"PUT", b"DELETE", b"\xff"]))
    target = draw(st.sampled_from([path.encode() for path, _ in ROUTES] + [b"/", b"*", b"/v1", b"/v1/x"]))
    lines = draw(st.lists(st.sampled_from(header_lines), max_size=2))
    if draw(st.integers(0, 9)):
        lines.append(b"Host: x")
    head = method + b" " + target + draw(queries) + b" HTTP/1.1\r\n"
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + draw(bodies)


async def replies_to(sent: bytes, pieces: int) -> bytes:
    """Everything the server replies to `sent`, given in about so many pieces."""
    near, far = memory_stream_pair()
    size = max(1, len(sent) // pieces)
    with trio.move_on_after(20):  # a stream of events goes on for ever
        async with trio.open_nursery() as nursery:
            nursery.start_soon(converse, SmallService(), Connection(far, SMALL))
            try:
                for start in range(0, len(sent), size):
                    await near.send_all(sent[start : start + size])
                await near.send_eof()
            except trio.BrokenResourceError:
                return b""  # the server closed
            received = bytearray()
            with trio.move_on_after(10):
                async for piece in near:
                    received += piece
            nursery.cancel_scope.cancel()
            return bytes(received)
    raise AssertionError("the server hangs")


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(st.binary(max_size=300), requests(), st.lists(requests(), max_size=3).map(b"".join)),
    st.integers(1, 9),
)
def test_any_bytes_get_a_reply_below_500_or_an_end(sent: bytes, pieces: int) -> None:
    reply = trio.run(replies_to, sent, pieces, clock=MockClock(autojump_threshold=0))
    assert reply == b"" or reply.startswith(b"HTTP/1.1 ")
    assert all(int(status) < 500 for status in STATUS.findall(reply)), reply


async def test_the_server_lives_after_a_hundred_clients_that_send_noise(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    path = tmp_path / "run" / "control.sock"
    await nursery.start(serve, SmallService(), path)
    noise = [bytes((number * 37 + place * place) % 256 for place in range(500)) for number in range(100)]
    for sent in noise:
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(sent)
            await stream.send_eof()
            reply = await read_all(stream)
            assert reply == b"" or b" 400 " in reply[:20]
    health = await trio.to_thread.run_sync(Client(path).health)
    assert health.version == "1.2.3"
    nursery.cancel_scope.cancel()
