"""What the WebRTC process promises beside the conformance of its streams."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from dittofs.links.link import LinkBroken
from dittofs.links.webrtc import call, take
from tests.links.webrtc_pair import webrtc_streams


def children() -> set[int]:
    """Processes of this one."""
    found = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return {int(pid) for pids in found for pid in pids}


async def nowhere(description: str) -> str:
    raise LinkBroken(description)


async def test_without_servers_nobody_outside_is_asked_for_an_address() -> None:
    async with trio.open_nursery() as processes:
        with pytest.raises(LinkBroken) as caught:
            await call((), nowhere, processes)
    description = str(caught.value)
    assert "typ host" in description
    assert "typ srflx" not in description


@pytest.mark.parametrize(
    "offer", ["x", "v=0\r\n", "v=0\r\nm=application 9 x\r\na=candidate:1 1 udp\r\n", "é" * 1000]
)
async def test_a_description_that_is_none_is_refused(offer: str) -> None:
    async def tell(_: str) -> None:
        pytest.fail("it was answered")

    async with trio.open_nursery() as processes:
        with pytest.raises(LinkBroken):
            await take((), offer, tell, processes)


async def test_a_process_ends_when_its_connection_is_given_up() -> None:
    described = trio.Event()

    async def mute(_: str) -> str:
        described.set()
        await trio.sleep_forever()
        raise AssertionError

    with trio.fail_after(60):
        async with trio.open_nursery() as processes, trio.open_nursery() as nursery:
            nursery.start_soon(call, (), mute, processes)
            await described.wait()
            nursery.cancel_scope.cancel()


@pytest.mark.soak
async def test_a_partner_that_has_vanished_is_noticed() -> None:
    before = children()
    async with webrtc_streams() as (one, other):
        vanishing = min(children() - before)
        await one.send_all(b"x")
        assert await other.receive_some() == b"x"
        os.kill(vanishing, signal.SIGKILL)
        with trio.fail_after(120):
            for stream in (one, other):
                try:
                    while await stream.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass


def test_the_daemon_does_not_load_what_its_webrtc_process_needs() -> None:
    code = """
import sys, mountd.daemon, dittofs.links.webrtc, dittofs.replication.network
print([name for name in ("aiortc", "aioice", "av") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
