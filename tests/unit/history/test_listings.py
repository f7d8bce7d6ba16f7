"""A snapshot's listing comes from any writer: of what no tree could hold nothing is done."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from dittofs.chunks.chunker import Chunking
from dittofs.chunks.content import store_content
from dittofs.chunks.source import BytesSource
from dittofs.errors import FormatError, FSError
from dittofs.history.listing import decode_listing, encode_listing
from dittofs.history.restoring_views import ViewRestoring
from dittofs.history.snapshots import SETTING, SnapshotView, find_snapshot, snapshot_roots, snapshots_of
from dittofs.history.views import ViewEntry, settled
from dittofs.ids import LOST_FOUND, ROOT, InodeId, inode_id
from dittofs.tree.record import Kind, Owner
from dittofs.tree.setting_back import SetBack
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig

NS = 10**18
MAKER = "/0123456789ab"
FILE = ViewEntry(b"f", Kind.FILE, (inode_id(b"\7" * 12),), 0o644, None, NS, NS, 1, b"r" * 32)
IMPOSSIBLE: list[dict[str, Any]] = [
    *({"name": name} for name in (b"../x", b"a/b", b"", b".", b"..", b"n" * 256, b"nul\0")),
    {"inodes": ()},
    {"inodes": (InodeId(".."),)},
    {"inodes": (ROOT,)},
    {"inodes": (FILE.inodes[0], inode_id(b"\6" * 12))},
    {"kind": Kind.LINK},
    {"kind": 99},
    {"mode": 1 << 40},
    {"mode": -1},
    {"owner": Owner(-1, 0, "", "")},
    {"owner": Owner(0, (1 << 32) - 1, "", "")},
    {"owner": Owner(0, 0, "x" * 257, "")},
    {"mtime": 1 << 63},
    {"birth": 1 << 62},
    {"birth": -(1 << 63)},
    {"size": -1},
    {"size": 1 << 63},
    {"root": b"r" * 4096},
    {"nlink": -1},
    {"rdev": -1},
    {"xattrs": {b"": b"\0"}},
    {"xattrs": {b"n" * 256: b"\0"}},
    {"xattrs": {b"a\0": b"\0"}},
]


def announce(rig: Rig, name: str, data: bytes, size: int | None = None, maker: str = MAKER) -> None:
    """What a writer may do: name any bytes a snapshot."""
    chunks = rig.volume.replica.chunks
    root = store_content(chunks, BytesSource(data), b"", 0, chunking=Chunking.CONTENT_DEFINED)
    chunks.sync()
    stored = (1, root, len(data) if size is None else size, rig.clock.now_ns(), "laptop", 1, 1)
    with rig.volume.replica.change() as change:
        change.group.set_setting(SETTING + name + maker, msgspec.msgpack.encode(stored))


def test_what_a_tree_can_hold_is_read_as_it_was_written() -> None:
    entries = [
        replace(FILE, name=b"\xff odd\n", owner=Owner(0, (1 << 32) - 2, "root", ""), mtime=-(1 << 63)),
        replace(FILE, xattrs={b"user.a": b"\0value"}, is_aside=True, mode=0o7777, nlink=2),
        replace(FILE, name=b"lost+found", kind=Kind.DIRECTORY, inodes=(LOST_FOUND,), size=0, root=b""),
        replace(FILE, name=b"merged", kind=Kind.DIRECTORY, inodes=(FILE.inodes[0], inode_id(b"\6" * 12))),
        replace(FILE, name=b"n" * 255, kind=Kind.SYMLINK, root=b"../../any where", size=15),
        replace(FILE, name=b"z", kind=Kind.BLOCK, rdev=(1 << 64) - 1, root=b"", size=0),
    ]
    entries.sort(key=lambda one: one.name)
    assert list(decode_listing(encode_listing(entries)).values()) == entries


@pytest.mark.parametrize("parts", IMPOSSIBLE, ids=str)
def test_what_no_tree_can_hold_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        decode_listing(encode_listing([replace(FILE, **parts)]))


def test_names_that_come_twice_or_in_disorder_and_other_bytes_are_refused() -> None:
    for listed in ([FILE, FILE], [replace(FILE, name=b"z"), FILE]):
        with pytest.raises(FormatError):
            decode_listing(encode_listing(listed))
    for data in (b"", b"\xc1", b"\x91" * 10_000, msgspec.msgpack.encode([[1]]), msgspec.msgpack.encode({})):
        with pytest.raises(FormatError):
            decode_listing(data)


async def test_a_snapshot_that_no_device_could_have_made_is_none(pair: Pair) -> None:
    announce(pair.a, "../../x", b"\x90")
    announce(pair.a, "huge", b"\x90", size=1 << 60)
    for maker in ("", "/anybody", f"{MAKER}0"):
        announce(pair.a, "made", b"\x90", maker=maker)
    announce(pair.a, "good", b"\x90")
    await pair.settle()
    assert [one.name for one in snapshots_of(pair.b.volume.replica)] == ["good"]


@pytest.mark.logs_warning("a snapshot is passed over")
async def test_a_listing_that_is_said_to_be_huge_is_not_read(pair: Pair) -> None:
    huge = replace(FILE, kind=Kind.DIRECTORY, size=1 << 60)
    announce(pair.a, "huge", encode_listing([huge]))
    await pair.settle()
    for rig in (pair.a, pair.b):
        snapshot = find_snapshot(rig.volume.replica, "huge")
        assert snapshot is not None
        view = SnapshotView(rig.volume.state, snapshot)
        (entry,) = (await settled(view.entries(view.top()))).values()
        with pytest.raises(FormatError):
            view.entries(entry)
    (top,) = snapshots_of(pair.a.volume.replica)
    assert [root for root, _ in snapshot_roots(pair.a.volume.replica)] == [top.root], "it is passed over"


async def test_nothing_is_restored_from_a_listing_that_no_tree_could_hold(pair: Pair) -> None:
    await pair.b.write("victim", b"v")
    await pair.settle()
    victim = pair.b.walk("victim").id
    for number, parts in enumerate([*IMPOSSIBLE, {"kind": Kind.DIRECTORY, "root": b"", "size": 0}]):
        parts = {"name": b"victim", "inodes": (victim,), **parts}
        announce(pair.a, f"bad{number}", encode_listing([replace(FILE, **parts)]))
        await pair.settle()
        snapshot = find_snapshot(pair.b.volume.replica, f"bad{number}")
        assert snapshot is not None
        run = ViewRestoring(pair.b.volume, SnapshotView(pair.b.volume.state, snapshot)).run((), dry_run=False)
        with pytest.raises(FormatError):
            [one async for one in run]
        await pair.settle()
        assert pair.a.listing("") == pair.b.listing("") == ["victim"]


async def test_nothing_is_set_back_that_other_devices_would_not_take(pair: Pair) -> None:
    await pair.b.write("victim", b"v")
    await pair.settle()
    victim = pair.b.walk("victim").id
    impossible = (
        SetBack(names={"": (ROOT, b"../x")}),
        SetBack(names={"": (InodeId(".."), b"x")}),
        SetBack(mtime=1 << 63),
        SetBack(owner=(Owner(-1, 0, "", ""),)),
        SetBack(xattrs={b"": b"\0"}),
    )
    for back in impossible:
        with pytest.raises(FSError), pair.b.volume.replica.change() as change:
            change.group.set_back(victim, back, stamp=pair.b.volume.state.tick())
    await pair.b.write("later", b"l")
    await pair.settle()
    assert pair.a.listing("") == pair.b.listing("") == ["later", "victim"]
