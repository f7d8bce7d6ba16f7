"""What becomes of an invitation whose maker went away."""

from pathlib import Path

import pytest
import trio

from dittofs.blocking import run_in_thread
from dittofs.clock import SystemClock, system_entropy
from dittofs.config import Paths, Settings
from dittofs.identity.records import Role
from dittofs.node import Node


async def test_an_invitation_that_nobody_was_shown_lets_nobody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trio.open_nursery() as nursery:
        node = Node(
            Paths.find({"DITTOFS_HOME": str(tmp_path)}),
            Settings("laptop", bind="127.0.0.1", port=0, uses_mdns=False),
            clock=SystemClock(),
            entropy=system_entropy,
            run_blocking=run_in_thread,
            nursery=nursery,
        )
        node.start()
        opened = await node.open("Shared", trusts_root=False)
        network = node.network
        assert network is not None
        asked = trio.Event()

        async def ask(_slot: int, _patience_s: float) -> bool:
            asked.set()
            await trio.sleep_forever()
            return True

        monkeypatch.setattr(network.meeting, "is_taken", ask)
        monkeypatch.setattr(network, "uses_mdns", True)
        async with trio.open_nursery() as sharing:
            sharing.start_soon(node.require_desk().share, opened, Role.WRITER)
            await asked.wait()
            assert network.meeting.slots()
            sharing.cancel_scope.cancel()
        assert not network.meeting.slots()
        monkeypatch.setattr(network, "uses_mdns", False)
        await node.require_desk().share(opened, Role.WRITER)
        assert network.meeting.slots()
        await node.close()
        nursery.cancel_scope.cancel()
