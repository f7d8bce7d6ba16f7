"""The page that says how a transport is added: what stands there is taken out, and is one."""

import importlib.util
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import trio

from dittofs.clock import SystemClock
from dittofs.identity.records import Role
from dittofs.links.link import Alpn, Link
from dittofs.replication.connector import Connector
from tests.links.conformance import Conformance, Maker, Pair, both_closed
from tests.links.devices import new_device, only
from tests.unit.replication.pair import SECRETS, sides, until

PAGE = Path(__file__).parents[2] / "docs/how-to/add-a-transport.md"
NAMES = ("dittofs.links.unix", "dittofs.replication.neighbours")


def loaded(name: str, place: Path, text: str) -> ModuleType:
    """A module as it would be with that text in its place."""
    place.write_text(text)
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModuleType, ModuleType]]:
    """Both modules of the page."""
    first, second = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    place = tmp_path_factory.mktemp("added")
    try:
        yield loaded(NAMES[0], place / "unix.py", first), loaded(NAMES[1], place / "neighbours.py", second)
    finally:
        for name in NAMES:
            sys.modules.pop(name, None)


@asynccontextmanager
async def over_unix(links: ModuleType, place: Path) -> AsyncIterator[Pair]:
    here, there = new_device(), new_device()
    accepted: list[Link] = []
    is_accepted, is_over = trio.Event(), trio.Event()

    async def serve(link: Link) -> None:
        accepted.append(link)
        is_accepted.set()
        await is_over.wait()

    def cut() -> None:
        accepted[0]._stream.socket.shutdown(trio.socket.SHUT_RDWR)  # type: ignore[attr-defined]

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(links.listen, place, there, serve, admits=only(here)))
        dialer = await links.dial(place, here, alpn=Alpn.SESSION, admits=only(there))
        async with both_closed(dialer):
            await is_accepted.wait()
            yield Pair(dialer, accepted[0], cut)
            is_over.set()
        nursery.cancel_scope.cancel()


class TestAdded(Conformance):
    @pytest.fixture
    def maker(self, modules: tuple[ModuleType, ModuleType], tmp_path: Path) -> Maker:
        return partial(over_unix, modules[0], tmp_path / "socket")


async def test_members_meet_by_a_transport_that_was_added(
    modules: tuple[ModuleType, ModuleType], tmp_path: Path
) -> None:
    async with sides(Role.WRITER) as both, trio.open_nursery() as nursery:
        for side in both:
            connector = Connector(side.device, clock=SystemClock())
            connector.add(side.peers, SECRETS.secret, ())
            nursery.start_soon(modules[1].Neighbours(side.device, connector, tmp_path).run)
        a, b = both
        await until(lambda: a.peers.open_sessions and b.peers.open_sessions)
        await a.write("file", b"by a new way")
        await until(lambda: b.rig.exists("file"))
        assert a.peers.open_sessions[0].link.description.startswith("unix ")
        nursery.cancel_scope.cancel()
