"""The history of an edited file costs what changed, and having a version back costs a few hundred bytes."""

from pathlib import Path

from tests.bench.history_cost import measure


async def test_edits_cost_their_chunks_and_restoring_is_a_metadata_operation(tmp_path: Path) -> None:
    cost, changed, restoring, _ = await measure(tmp_path / "store", 4 << 20, 12)
    assert cost < 1.25 * changed  # beside the chunks: manifest nodes and version nodes
    assert restoring < 12 * 1024
