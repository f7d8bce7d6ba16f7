"""What lies on one device's disk is damaged: it is found, named, and had back from the other, or refused."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dittofs.journal.journal import Journal
from dittofs.local_disk import LocalDisk
from dittofs.tree.record import DOCUMENTS, META_SHARD
from dittofs.tree.shard import Epoch, Shard
from tests.e2e.network import Device, Network, eventually

DATA = {f"file{number}": random.Random(number).randbytes(700_000) for number in range(4)}
Damage = Callable[[Path], None]


def volume_of(device: Device) -> Path:
    (found,) = (device.home / "state/volumes").iterdir()
    return found


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0x10]))


def flip_pack(volume: Path) -> None:
    flip(volume / "chunks/00000001.pack", 300_000)


def cut_pack(volume: Path) -> None:
    os.truncate(volume / "chunks/00000001.pack", 1_200_000)


def lose_pack(volume: Path) -> None:
    (volume / "chunks/00000001.pack").unlink()


def flip_pack_index(volume: Path) -> None:
    (run, *_) = sorted((volume / "chunks/index").glob("*.run"))
    flip(run, 100)


def findings(device: Device, *arguments: str) -> tuple[int, list[Any]]:
    done = device.run("check", "--json", *arguments, check=False)
    items = [json.loads(line) for line in done.stdout.splitlines()]
    assert items[-1]["type"] == "done", done.stdout + done.stderr
    return done.returncode, [item for item in items if item["type"] == "finding"]


def stored_on_both(a: Device, b: Device) -> None:
    for name, data in DATA.items():
        (a.root / name).write_bytes(data)
    a.await_in_step()
    eventually(lambda: all((b.root / name).exists() for name in DATA), 10)
    b.run("get", *[str(b.root / name) for name in DATA][:1], "-o", str(b.directory / "copy"), check=False)


def ended(device: Device) -> None:
    device.run("unmount", "--force", device.root)
    device.end_daemon()


@pytest.mark.soak
@pytest.mark.parametrize("damage", [flip_pack, cut_pack, lose_pack])
def test_a_damaged_pack_is_named_and_had_back_from_the_other_device(
    pair: tuple[Network, Device, Device], damage: Damage
) -> None:
    net, a, b = pair
    b.expects_errors = True
    stored_on_both(a, b)
    net.pull(a, b)
    ended(b)
    damage(volume_of(b))
    b.mount()
    code, found = findings(b)
    assert code == 5
    assert any(one["severity"] == "damage" for one in found)
    net.plug(a, b)
    eventually(lambda: any(one["is_online"] for one in b.status()["devices"] if not one["is_this"]), 30)
    code, found = findings(b, "--repair")
    assert code == 0, found
    net.pull(a, b)
    assert {name: (b.root / name).read_bytes() for name in DATA} == DATA


def test_what_no_device_has_is_told_by_its_path(pair: tuple[Network, Device, Device]) -> None:
    net, a, b = pair
    a.expects_errors = True
    net.pull(a, b)
    (a.root / "only here").write_bytes(DATA["file0"])
    ended(a)
    flip_pack(volume_of(a))
    a.mount()
    code, found = findings(a, "--repair")
    assert code == 5
    lost = [one for one in found if one.get("path") == "only here" and one["severity"] == "damage"]
    assert lost
    assert b.label in lost[0]["mend"]


def test_a_damaged_index_of_the_packs_is_made_anew_and_nothing_is_lost(
    pair: tuple[Network, Device, Device],
) -> None:
    net, a, b = pair
    b.expects_errors = True
    stored_on_both(a, b)
    net.pull(a, b)
    ended(b)
    flip_pack_index(volume_of(b))
    b.mount()
    assert findings(b)[0] in (0, 5)
    findings(b, "--repair")
    assert {name: (b.root / name).read_bytes() for name in DATA} == DATA
    assert findings(b)[0] == 0


@pytest.mark.soak
@pytest.mark.parametrize("part", range(1, 6))
def test_a_flipped_bit_in_the_journal_is_refused_named_or_mended_and_nothing_is_wrong_in_silence(
    pair: tuple[Network, Device, Device], part: int
) -> None:
    _, a, b = pair
    b.expects_errors = True
    stored_on_both(a, b)
    ended(b)
    journal = volume_of(b) / "journal.db"
    flip(journal, journal.stat().st_size * part // 6 + 50)
    done = b.run("mount", b.root, check=False)
    if done.returncode:
        assert "journal.db" in done.stderr, done.stderr
        assert "dittofs check --repair" in done.stderr, done.stderr
    code, found = findings(b, "--repair")
    if code and not done.returncode:  # what can only be mended while it is not open
        assert any("daemon --stop" in one.get("mend", "") for one in found), found
        ended(b)
        done = b.run("mount", b.root, check=False)
        assert "dittofs check --repair" in done.stderr, done.stderr
        code, found = findings(b, "--repair")
    assert code == 0, found
    if done.returncode:
        b.mount()
    eventually(lambda: all((b.root / name).exists() for name in DATA), 30)
    assert {name: (b.root / name).read_bytes() for name in DATA} == DATA
    (b.root / "written after").write_bytes(b"x")
    eventually(lambda: (a.root / "written after").exists(), 30)


def put_snapshots(volume: Path) -> bytes:
    """A snapshot of every document, as they have after long use; returns bytes of one of them."""
    found = b""
    journal = Journal.open(LocalDisk(str(volume)), "journal.db")
    for number in range(DOCUMENTS):
        epoch, snapshot, updates = journal.load(number)
        if snapshot is not None or updates:
            blob = Shard.load(Epoch(*epoch), snapshot, updates, 2).snapshot()
            with journal.transaction():
                journal.put_snapshot(number, epoch, blob)
            if number != META_SHARD:
                found = blob
    journal.close()
    return found


@pytest.mark.soak
def test_a_damaged_snapshot_of_a_document_costs_nothing_and_writing_goes_on(
    pair: tuple[Network, Device, Device],
) -> None:
    net, a, b = pair
    b.expects_errors = True
    stored_on_both(a, b)
    net.pull(a, b)
    ended(b)
    put_snapshots(volume_of(b))
    journal = Journal.open(LocalDisk(str(volume_of(b))), "journal.db")
    with journal.transaction():
        journal._database.statements.run("test", "UPDATE snapshot SET blob=zeroblob(length(blob))")
    journal.close()
    b.mount()
    for name in DATA:
        with (b.root / name).open("r+b") as file:
            file.write(b"changed after the damage")
    code, found = findings(b, "--repair")
    assert code == 0, found
    net.plug(a, b)
    eventually(lambda: all((a.root / name).read_bytes()[:7] == b"changed" for name in DATA), 60)


def test_a_deleted_journal_is_refused_and_had_back_from_the_other_device(
    pair: tuple[Network, Device, Device],
) -> None:
    _, a, b = pair
    b.expects_errors = True
    stored_on_both(a, b)
    ended(b)
    for path in volume_of(b).glob("journal.db*"):
        path.unlink()
    done = b.run("mount", b.root, check=False)
    assert done.returncode
    assert "journal.db" in done.stderr, done.stderr
    assert "dittofs check --repair" in done.stderr, done.stderr
    code, found = findings(b, "--repair")
    assert code == 0, found
    b.mount()
    eventually(lambda: all((b.root / name).exists() for name in DATA), 60)
    assert {name: (b.root / name).read_bytes() for name in DATA} == DATA
    (b.root / "written after").write_bytes(b"x")
    eventually(lambda: (a.root / "written after").exists(), 30)


@pytest.mark.soak
def test_the_only_device_with_a_deleted_journal_shows_no_empty_volume(
    pair: tuple[Network, Device, Device],
) -> None:
    net, a, b = pair
    a.expects_errors = True
    stored_on_both(a, b)
    net.pull(a, b)
    ended(a)
    for path in volume_of(a).glob("journal.db*"):
        path.unlink()
    done = a.run("mount", a.root, check=False)
    assert done.returncode
    assert "journal.db" in done.stderr, done.stderr
    code, found = findings(a, "--repair")
    assert code == 5, found
    a.mount()
    with pytest.raises(OSError, match="Read-only"):
        (a.root / "new").write_bytes(b"x")
    net.plug(a, b)
    eventually(lambda: all((a.root / name).exists() for name in DATA), 60)
    assert {name: (a.root / name).read_bytes() for name in DATA} == DATA
