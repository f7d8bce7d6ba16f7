"""A server on a real Unix socket around a real, small service."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from dittofs.control.client import Client
from dittofs.control.server import serve
from tests.unit.control.small_service import SmallService


@dataclass
class Running:
    service: SmallService
    path: Path
    client: Client

    async def connect(self) -> trio.SocketStream:
        return await trio.open_unix_socket(str(self.path))


@pytest.fixture
async def running(tmp_path: Path, nursery: trio.Nursery) -> AsyncGenerator[Running, None]:
    service = SmallService()
    path = tmp_path / "run" / "control.sock"
    await nursery.start(serve, service, path)
    yield Running(service, path, Client(path))
    nursery.cancel_scope.cancel()


@pytest.fixture
def service() -> SmallService:
    return SmallService()
