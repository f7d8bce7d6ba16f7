"""Paths as JSON carries them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dittofs.control.faults import Refusal
from dittofs.control.files import FileRequest
from dittofs.control.paths import PATH_BYTES_MAX, components, path_bytes, path_fields


@given(st.binary(max_size=300).filter(lambda raw: b"\0" not in raw))
def test_any_path_survives_json(path: bytes) -> None:
    sent = msgspec.json.encode(FileRequest(volume="v", **path_fields(path)))
    assert path_bytes(msgspec.json.decode(sent, type=FileRequest)) == path


def test_a_name_whose_base64_reads_like_a_word_of_json_survives_a_query() -> None:
    path = b"\x9e\xe9\x65"  # "null"
    fields = {
        name: str(value) for name, value in msgspec.to_builtins(FileRequest("v", **path_fields(path))).items()
    }
    assert fields["path_raw"] == "null"
    assert path_bytes(msgspec.convert(fields, FileRequest, strict=False)) == path


def test_a_readable_path_stays_readable() -> None:
    assert path_fields("Fotos/Übung 100%.jpg".encode()) == {"path": "Fotos/Übung 100%.jpg", "path_raw": b""}


@pytest.mark.parametrize("path", [b"a\0b", b"a" * (PATH_BYTES_MAX + 1)])
def test_a_path_no_system_can_hold_is_refused(path: bytes) -> None:
    with pytest.raises(Refusal, match="path"):
        path_bytes(FileRequest(volume="v", **path_fields(path)))


def test_slashes_and_dots_that_say_nothing_are_dropped() -> None:
    assert components(b"/a//./b/") == (b"a", b"b")
    assert components(b"") == ()


@pytest.mark.parametrize("path", [b"..", b"a/../b", b"/" + b"n" * 256])
def test_a_path_that_leaves_its_volume_or_holds_too_long_a_name_is_refused(path: bytes) -> None:
    with pytest.raises(Refusal):
        components(path)
