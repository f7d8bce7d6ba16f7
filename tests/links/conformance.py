"""What every transport's links must do. A test module gives a `Maker`; `suite` gives the tests' bodies."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from random import Random

import pytest
import trio
import trio.testing

from dittofs.links.link import Link, LinkBroken


@dataclass(frozen=True)
class Pair:
    """Both ends of a link, and how to cut the stream beneath the second without a goodbye."""

    dialer: Link
    accepter: Link
    cut: Callable[[], object]
    big_bytes: int = 24 << 20
    """More than all buffers on the way hold together."""


Maker = Callable[[], AbstractAsyncContextManager[Pair]]
PIECE_BYTES = 256 << 10
HALVES_BYTES = 100_000


@asynccontextmanager
async def both_closed(*links: Link) -> AsyncIterator[None]:
    """Close all the links at once at the end."""
    try:
        yield
    finally:
        async with trio.open_nursery() as nursery:
            for link in links:
                nursery.start_soon(link.aclose)


async def received(link: Link, count: int, max_bytes: int = 65536) -> bytes:
    """Exactly `count` bytes."""
    data = bytearray()
    while len(data) < count:
        piece = await link.receive_some(min(max_bytes, count - len(data)))
        assert 0 < len(piece) <= max_bytes
        data += piece
    return bytes(data)


class Conformance:
    """Subclass it as `TestXyz` with a fixture `maker`."""

    async def test_the_two_ends_know_each_other(self, maker: Maker) -> None:
        async with maker() as pair:
            assert pair.dialer.is_dialer
            assert not pair.accepter.is_dialer
            assert pair.dialer.alpn == pair.accepter.alpn
            assert pair.dialer.peer != pair.accepter.peer
            assert pair.dialer.description
            secret = pair.dialer.exporter("EXPORTER-test", 32)
            assert len(secret) == 32
            assert secret == pair.accepter.exporter("EXPORTER-test", 32)
            assert secret != pair.dialer.exporter("EXPORTER-other", 32)

    @pytest.mark.parametrize("seed", range(3))
    async def test_bytes_arrive_whole_and_in_order_however_they_are_split(
        self, maker: Maker, seed: int
    ) -> None:
        chance = Random(seed)
        data = chance.randbytes(1 << 20)

        async def send(link: Link) -> None:
            rest = memoryview(data)
            while rest:
                size = chance.choice((0, 1, 5, 100, 16383, 16384, 16385, 300_000))
                await link.send_all(rest[:size])
                rest = rest[size:]

        async with maker() as pair, trio.open_nursery() as nursery:
            nursery.start_soon(send, pair.dialer)
            got = bytearray()
            while len(got) < len(data):
                got += await pair.accepter.receive_some(chance.choice((1, 7, 4096, 65536, 1 << 20)))
            assert got == data

    async def test_a_big_transfer_arrives_intact_in_both_directions_at_once(self, maker: Maker) -> None:
        async def check(link: Link, data: bytes) -> None:
            assert await received(link, len(data), 256 << 10) == data

        async with maker() as pair, trio.open_nursery() as nursery:
            there, back = Random(1).randbytes(pair.big_bytes), Random(2).randbytes(pair.big_bytes)
            nursery.start_soon(pair.dialer.send_all, there)
            nursery.start_soon(pair.accepter.send_all, bytearray(back))
            nursery.start_soon(check, pair.accepter, there)
            nursery.start_soon(check, pair.dialer, back)

    async def test_64_mib_arrive_intact(self, maker: Maker) -> None:
        await _transfer(maker, 64 << 20)

    @pytest.mark.soak
    async def test_a_gibibyte_arrives_intact(self, maker: Maker) -> None:
        await _transfer(maker, 1 << 30)

    async def test_a_sender_waits_for_a_receiver_that_does_not_receive(self, maker: Maker) -> None:
        sent = 0

        async def send(link: Link) -> None:
            nonlocal sent
            for _ in range(pair.big_bytes // 65536):
                await link.send_all(bytes(65536))
                sent += 65536

        async with maker() as pair, trio.open_nursery() as nursery:
            nursery.start_soon(send, pair.dialer)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert sent < pair.big_bytes
            await received(pair.accepter, pair.big_bytes)
        assert sent == pair.big_bytes

    async def test_all_that_was_sent_before_the_close_is_received_and_then_the_end(
        self, maker: Maker
    ) -> None:
        async with maker() as pair, trio.open_nursery() as nursery:
            await pair.dialer.send_all(b"last words" * 1000)
            nursery.start_soon(pair.dialer.aclose)
            assert await received(pair.accepter, 10_000) == b"last words" * 1000
            assert await pair.accepter.receive_some() == b""
            assert await pair.accepter.receive_some() == b""
            await pair.accepter.aclose()

    async def test_last_words_arrive_though_the_closing_side_left_bytes_unread(self, maker: Maker) -> None:
        async with maker() as pair, trio.open_nursery() as nursery:
            await pair.accepter.send_all(bytes(20_000))
            await pair.dialer.send_all(b"no")
            nursery.start_soon(pair.dialer.aclose)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert await received(pair.accepter, 2) == b"no"
            assert await pair.accepter.receive_some() == b""
            await pair.accepter.aclose()

    async def test_a_stream_that_is_cut_is_broken_and_not_ended(self, maker: Maker) -> None:
        async with maker() as pair:
            await pair.accepter.send_all(b"before")
            pair.cut()
            assert await received(pair.dialer, 6) == b"before"
            with pytest.raises(LinkBroken):
                await pair.dialer.receive_some()

    async def test_sending_to_a_side_that_is_gone_fails(self, maker: Maker) -> None:
        async with maker() as pair:
            pair.cut()
            with pytest.raises(LinkBroken):
                await pair.dialer.send_all(bytes(pair.big_bytes))
            with pytest.raises(LinkBroken):
                await pair.dialer.send_all(b"more")

    async def test_a_cancelled_receive_loses_nothing(self, maker: Maker) -> None:
        async with maker() as pair:
            with trio.move_on_after(0.01) as scope:
                await pair.accepter.receive_some()
            assert scope.cancelled_caught
            await pair.dialer.send_all(b"whole")
            assert await received(pair.accepter, 5) == b"whole"

    async def test_after_a_cancelled_send_nothing_is_sent_any_more(self, maker: Maker) -> None:
        async with maker() as pair:
            with trio.move_on_after(0.05) as scope:
                await pair.dialer.send_all(bytes(pair.big_bytes))
            assert scope.cancelled_caught
            with pytest.raises(LinkBroken):
                await pair.dialer.send_all(b"x")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.dialer.aclose)
                with pytest.raises(LinkBroken):  # what came before is genuine, and it is not the end
                    while await pair.accepter.receive_some():
                        pass

    async def test_a_close_ends_what_waits_here(self, maker: Maker) -> None:
        async def receive(link: Link) -> None:
            with pytest.raises(LinkBroken):
                await link.receive_some()

        async with maker() as pair, trio.open_nursery() as nursery:
            nursery.start_soon(receive, pair.dialer)
            await trio.testing.wait_all_tasks_blocked()
            await pair.dialer.aclose()

    async def test_a_closed_link_refuses_and_may_be_closed_again(self, maker: Maker) -> None:
        async with maker() as pair:
            async with both_closed(pair.dialer, pair.accepter):
                pass
            await pair.dialer.aclose()
            with pytest.raises(LinkBroken):
                await pair.dialer.send_all(b"x")
            with pytest.raises(LinkBroken):
                await pair.dialer.receive_some()

    async def test_closing_takes_no_longer_than_its_bound_when_the_other_side_does_nothing(
        self, maker: Maker
    ) -> None:
        async with maker() as pair:
            with trio.fail_after(3):
                await pair.dialer.aclose()

    async def test_a_cancelled_close_closes_all_the_same(self, maker: Maker) -> None:
        async with maker() as pair:
            with trio.CancelScope() as scope:
                scope.cancel()
                await pair.dialer.aclose()
            with pytest.raises(LinkBroken):
                await pair.accepter.receive_some()


async def _transfer(maker: Maker, size: int) -> None:
    """Send `size` bytes that are nowhere the same, and compare what arrives as it does."""
    block = Random(3).randbytes(PIECE_BYTES)

    def piece(number: int) -> bytes:
        return number.to_bytes(8, "big") + block[8:]

    async def send(link: Link) -> None:
        for number in range(size // PIECE_BYTES):
            await link.send_all(piece(number))

    async with maker() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(send, pair.dialer)
        for number in range(size // PIECE_BYTES):
            assert await received(pair.accepter, PIECE_BYTES, PIECE_BYTES) == piece(number)


StreamMaker = Callable[[], AbstractAsyncContextManager[tuple[trio.abc.Stream, trio.abc.Stream]]]
HalvesMaker = Callable[[], AbstractAsyncContextManager[tuple[trio.SocketStream, trio.SocketStream]]]


class StreamConformance:
    """What a link needs of the stream beneath it. Subclass it as `TestXyz` with a fixture `streams`."""

    async def test_what_was_sent_before_a_close_arrives(self, streams: StreamMaker) -> None:
        async with streams() as (one, other):
            await one.send_all(bytes(HALVES_BYTES))
            await one.aclose()
            count = 0
            while piece := await other.receive_some():
                count += len(piece)
            assert count == HALVES_BYTES

    async def test_who_sends_to_one_that_has_closed_is_told(self, streams: StreamMaker) -> None:
        async with streams() as (one, other):
            await other.aclose()
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await one.send_all(bytes(PIECE_BYTES))


class HalvesConformance(StreamConformance):
    """Of streams that can be closed by halves, too."""

    async def test_who_has_said_that_no_more_comes_still_receives(self, streams: HalvesMaker) -> None:
        async def answer(stream: trio.SocketStream) -> None:
            got = bytearray()
            while piece := await stream.receive_some():
                got += piece
            assert got == bytes(HALVES_BYTES)
            await stream.send_all(b"y" * HALVES_BYTES)
            await stream.send_eof()

        async with streams() as (one, other), trio.open_nursery() as nursery:
            nursery.start_soon(answer, other)
            await one.send_all(bytes(HALVES_BYTES))
            await one.send_eof()
            got = bytearray()
            while piece := await one.receive_some():
                got += piece
            assert got == b"y" * HALVES_BYTES
