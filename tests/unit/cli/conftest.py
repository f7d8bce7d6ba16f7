"""The command against a server with a real, small service, in a DITTOFS_HOME of its own."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from dittofs.cli.main import main
from dittofs.config import Paths
from dittofs.control.server import serve
from tests.unit.control.small_service import SmallService


@dataclass
class Shell:
    """Runs `dittofs` in this process and keeps what it printed."""

    captured: pytest.CaptureFixture[str]
    out: str = ""
    err: str = ""

    def run(self, *words: str | Path) -> int:
        self.captured.readouterr()
        code = main([str(word) for word in words])
        self.out, self.err = self.captured.readouterr()
        return code

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DITTOFS_HOME that does not exist yet, and a working directory that is in no mount."""
    monkeypatch.setenv("DITTOFS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return tmp_path / "home"


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def service(home: Path) -> Iterator[SmallService]:
    """A daemon that answers, on a loop in a thread of its own."""
    del home
    service = SmallService()
    ready = threading.Event()
    stop: list[trio.lowlevel.TrioToken] = []
    scope = trio.CancelScope()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            with scope:
                await nursery.start(serve, service, Paths.find().socket)
                stop.append(trio.lowlevel.current_trio_token())
                ready.set()
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    assert ready.wait(10)
    yield service
    stop[0].run_sync_soon(scope.cancel)
    thread.join()
