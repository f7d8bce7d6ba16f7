"""Garbage and retired devices as people meet them: the commands, two daemons, real stores."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.network import Device, Network, eventually, network

HOURLESS = "[storage]\ngarbage_grace_hours = 0\n"


def report(device: Device, *arguments: str) -> Any:
    return json.loads(device.run("cache", *arguments, "--json").stdout)


def others(device: Device) -> list[Any]:
    return [one for one in device.status()["devices"] if not one["is_this"]]


def packs(device: Device) -> int:
    (volume,) = (device.home / "state/volumes").iterdir()
    return sum(path.stat().st_size for path in (volume / "chunks").glob("*.pack"))


@pytest.mark.soak
def test_removed_files_give_their_room_back_when_all_devices_have_answered(tmp_path: Path) -> None:
    with network(tmp_path) as net:
        a, b = net.device("alder"), net.device("birch")
        for device in (a, b):
            with (device.home / "config.toml").open("a") as settings:
                settings.write(HOURLESS)
        net.cable(a, b)
        a.found()
        b.join(a.invite())
        kept = os.urandom(3_000_000)
        (a.root / "kept").write_bytes(kept)
        (a.root / "gone").write_bytes(os.urandom(9_000_000))
        a.await_in_step()
        net.pull(a, b)
        eventually(lambda: not any(one["is_online"] for one in others(a)), 60)
        (a.root / "gone").unlink()
        a.run("trash", "empty", "--yes")
        assert report(a, "stats")["garbage"]["bytes"] >= 9_000_000
        assert not report(a, "gc", "--dry-run")["is_swept_now"]
        waiting = report(a, "gc")
        assert [one["name"] for one in waiting["round"]["awaited"]] == ["birch"]
        assert "dittofs devices retire birch" in a.run("cache", "stats").stdout
        assert packs(a) > 12_000_000
        net.plug(a, b)
        eventually(lambda: report(a, "stats")["round"] is None, 90, "the round ends by itself")
        assert report(a, "stats")["swept"]["room_bytes"] >= 9_000_000
        assert packs(a) < 4_000_000
        assert (a.root / "kept").read_bytes() == kept
        assert a.run("check").returncode == 0
        assert (b.root / "kept").read_bytes() == kept


@pytest.mark.soak
def test_a_device_that_never_comes_back_is_retired_and_may_come_back_all_the_same(
    pair: tuple[Network, Device, Device],
) -> None:
    net, a, b = pair
    (a.root / "file").write_bytes(os.urandom(2_000_000))
    a.await_in_step()
    refused = a.run("devices", "retire", "birch", check=False)
    assert refused.returncode == 1 or "connected" in refused.stderr
    net.pull(a, b)
    eventually(lambda: not any(one["is_online"] for one in a.status()["devices"] if not one["is_this"]), 30)
    assert "Retired birch" in a.run("devices", "retire", "birch").stdout
    assert "retired" in a.run("devices").stdout
    (b.root / "made meanwhile").write_bytes(b"by birch")
    net.plug(a, b)
    eventually(lambda: (a.root / "made meanwhile").exists(), 30)
    eventually(lambda: "RETIRED" in b.run("status", check=False).stdout, 30)
    b.run("devices", "rejoin")
    eventually(lambda: "retired" not in a.run("devices").stdout, 30)
    assert (b.root / "file").read_bytes() == (a.root / "file").read_bytes()
