"""What lies on a device by its user's word: evict, pin, a cache limit. Two daemons, real stores."""

import json
import os
from pathlib import Path

from tests.e2e.network import Device, Network, eventually, network

SIZE = 12_000_000


def packs(device: Device) -> int:
    """What the disk gives for the store, as `du` says it."""
    (volume,) = (device.home / "state/volumes").iterdir()
    return sum(path.stat().st_blocks * 512 for path in (volume / "chunks").glob("*.pack"))


def here(device: Device) -> int:
    return int(device.status()["volumes"][0]["bytes_here"] or 0)


def test_evicted_files_give_their_room_back_and_are_read_from_the_other_device(
    pair: tuple[Network, Device, Device],
) -> None:
    net, a, b = pair
    data, kept = os.urandom(SIZE), os.urandom(SIZE // 4)
    (a.root / "films").mkdir()
    (a.root / "films/one").write_bytes(data)
    (a.root / "thesis").write_bytes(kept)
    a.run("sync")
    refused = a.run("evict", a.root / "films", check=False)
    assert refused.returncode == 1
    assert "copies = 2" in refused.stdout
    planned = a.run("evict", "--dry-run", a.root / "films", check=False)
    assert (planned.returncode, "copies = 2" in planned.stdout) == (1, True), "it promises no more"
    a.run("copies", "on-demand")
    a.run("pin", a.root / "thesis")
    before = packs(a)
    with (a.root / "films/one").open("rb"):
        assert "a program has it open" in a.run("evict", a.root / "films", check=False).stdout
    eventually(lambda: a.run("evict", a.root / "films", check=False).returncode == 0, 30)
    assert packs(a) < before - SIZE * 9 // 10
    eventually(lambda: here(a) == len(kept), 30)
    all_of_it = a.run("evict", a.root, check=False)
    assert "thesis: it is pinned" in all_of_it.stdout
    assert "pinned" in a.run("list", a.root).stdout
    last = b.run("evict", "--force", b.root / "films", check=False)
    assert "does not have all of it" in last.stdout
    assert (b.root / "films/one").read_bytes() == data
    assert (a.root / "films/one").read_bytes() == data
    net.pull(a, b)
    assert (a.root / "thesis").read_bytes() == kept
    away = a.run("evict", a.root / "films", check=False)
    assert "no other device is connected" in away.stdout or "nothing" in away.stdout.lower()


def test_a_pinned_directory_is_fetched_whole_and_a_full_cache_frees_the_rest(tmp_path: Path) -> None:
    with network(tmp_path) as net:
        a, b = net.device("alder"), net.device("birch")
        with (b.home / "config.toml").open("a") as settings:
            settings.write(f"[cache]\nbytes_max = {SIZE}\n")
        net.cable(a, b)
        a.found()
        b.join(a.invite())
        a.run("copies", "on-demand")
        (a.root / "keep").mkdir()
        (a.root / "keep/one").write_bytes(os.urandom(4_000_000))
        (a.root / "old").write_bytes(os.urandom(SIZE // 2))
        (a.root / "young").write_bytes(os.urandom(SIZE // 2))
        a.await_in_step()
        b.run("pin", b.root / "keep")
        (a.root / "keep/later").write_bytes(os.urandom(1_000_000))
        eventually(lambda: here(b) >= 5_000_000, 60)
        for name in ("old", "young"):
            eventually(lambda name=name: (b.root / name).exists(), 30)  # type: ignore[misc]
            (b.root / name).read_bytes()
        assert packs(b) > SIZE
        eventually(lambda: b.run("cache", "gc") and packs(b) <= SIZE, 60)
        missing = [json.loads(line) for line in b.run("list", "--missing", "--json").stdout.splitlines()]
        assert [one["path"] for one in missing] == ["old"], "the one that was not used for longest"
        assert b.status()["volumes"][0]["cache_over_bytes"] == 0
