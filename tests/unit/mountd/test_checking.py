"""What a check says of bytes that are not on this device."""

from pathlib import Path

from dittofs.control.protocol import CheckDone, Finding
from dittofs.local_disk import LocalDisk
from mountd.checking import Elsewhere, check
from tests.simulation.pair import Pair


async def test_bytes_on_another_device_are_missing_and_no_damage_unless_there_is_no_other(
    tmp_path: Path,
) -> None:
    pair = Pair(LocalDisk(str(tmp_path / "a")), LocalDisk(str(tmp_path / "b")))
    await pair.a.write("f", b"x" * 100_000)
    await pair.settle()
    await pair.b.write("mine", b"y" * 100)
    await pair.b.publish()
    items = [item async for item in check(pair.b.volume, [], Elsewhere(is_alone=False))]
    (finding,) = (item for item in items if isinstance(item, Finding))
    assert (finding.severity, finding.what) == ("warning", "missing")
    assert "100000 bytes" in finding.detail
    assert isinstance(items[-1], CheckDone)
    assert (items[-1].files, items[-1].bytes, items[-1].findings) == (2, 100, 0)

    items = [item async for item in check(pair.b.volume, [])]
    assert [(one.severity, one.path) for one in items if isinstance(one, Finding)] == [("damage", "f")]
    assert not pair.from_a.fetched, "a check fetches nothing"
    pair.abandon()
