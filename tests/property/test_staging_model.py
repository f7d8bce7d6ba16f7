"""A layer behaves like a file: whatever is written, cut, saved, spilled to a file or restored."""

import itertools
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from dittofs.local_disk import LocalDisk
from dittofs.volume.ranges import RangeSet
from dittofs.volume.rows import Increment
from dittofs.volume.staging import DIRECTORY, MEMORY_BYTES_MAX, Layer

SPAN = 400


class Plain:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove", "cut"]), st.integers(0, 60), st.integers(0, 60)),
        max_size=30,
    )
)
def test_a_range_set_covers_exactly_what_was_added_and_not_cut(steps: list[tuple[str, int, int]]) -> None:
    ranges, model = RangeSet(), set[int]()
    for kind, start, end in steps:
        if kind == "add":
            ranges.add(start, end)
            model |= set(range(start, end))
        elif kind == "remove":
            ranges.remove(start, end)
            model -= set(range(start, end))
        else:
            ranges.cut(start)
            model = {one for one in model if one < start}
        listed = list(ranges)
        assert {one for a, b in listed for one in range(a, b)} == model
        assert all(a[1] < b[0] for a, b in itertools.pairwise(listed)), "ranges touch"
        inside = {one for a, b in ranges.within(10, 40) for one in range(a, b)}
        assert inside == {one for one in model if 10 <= one < 40}
        assert ranges.total() == len(model)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, SPAN), st.binary(min_size=1, max_size=80)),
        st.tuples(st.just("punch"), st.integers(0, SPAN), st.binary(min_size=1, max_size=80)),
        st.tuples(st.just("truncate"), st.integers(0, SPAN), st.just(b"")),
        st.tuples(st.just("save"), st.just(0), st.just(b"")),
        st.tuples(st.just("spill"), st.just(0), st.just(b"")),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(base=st.binary(max_size=200), steps=steps)
def test_a_layer_reads_like_a_file_and_comes_back_from_its_increments(
    base: bytes, steps: list[tuple[str, int, bytes]]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        disk = LocalDisk(directory)
        disk.make_directory(DIRECTORY)
        layer = Layer(disk, "layer", Plain(base), len(base))
        model = bytearray(base)
        increments: list[Increment] = []

        def save() -> None:
            increment = layer.next_increment()
            increments.append(increment)
            layer.saved(increment)

        for kind, place, data in steps:
            if kind == "write":
                layer.write(place, data)
                model.extend(b"\0" * (place - len(model)))
                model[place : place + len(data)] = data
            elif kind == "truncate":
                layer.truncate(place)
                del model[place:]
                model.extend(b"\0" * (place - len(model)))
            elif kind == "punch":
                layer.punch(place, place + len(data))
                end = min(place + len(data), len(model))
                model[place:end] = bytes(max(0, end - place))
            elif kind == "save":
                save()
            elif not layer.is_filed:
                layer._move_to_file()
            assert layer.size == len(model)
            assert layer.read(0, SPAN * 2) == bytes(model)
            assert layer.read(37, 41) == bytes(model[37:78])
        save()
        again = Layer(disk, "layer", Plain(base), len(base))
        if layer.is_filed:
            again.open_file()
        for increment in increments:
            again.restore(increment)
        assert again.read(0, SPAN * 2) == bytes(model)
        assert (again.size, again.base_limit) == (layer.size, layer.base_limit)
        again.release()
        layer.discard()


def test_a_layer_that_outgrows_memory_moves_to_its_file_and_reads_the_same(tmp_path: Path) -> None:
    disk = LocalDisk(str(tmp_path))
    disk.make_directory(DIRECTORY)
    layer = Layer(disk, "big", Plain(b""), 0)
    block = bytes(range(256)) * 64
    for place in range(0, MEMORY_BYTES_MAX + len(block), len(block)):
        layer.write(place, block)
    assert layer.is_filed
    assert layer.read(0, layer.size) == block * (layer.size // len(block))
    layer.discard()
    assert not disk.listdir(DIRECTORY)
