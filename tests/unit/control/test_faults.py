"""Errors as refusals."""

import errno

import msgspec
import pytest

from dittofs.control.faults import FAULTS, Refusal, refusal_of
from dittofs.control.protocol import Failure, failure_of
from dittofs.errors import ChunkMissing, ConfigError, Damaged, DiskFull, DittoError, FSError, ReadOnlyVolume


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FSError(errno.ENOENT), "not_found"),
        (FSError(errno.EEXIST), "exists"),
        (FSError(errno.ENOSPC), "no_space"),
        (FSError(errno.EROFS), "read_only"),
        (FSError(errno.EIO), "failed"),
        (FSError(errno.EXDEV), "failed"),
        (DiskFull("full"), "no_space"),
        (ReadOnlyVolume("the journal cannot be appended to"), "read_only"),
        (Damaged("pack 3", "torn"), "damaged"),
        (ChunkMissing("gone"), "damaged"),
        (ConfigError("mode 0644"), "refused"),
        (DittoError("anything else"), "failed"),
    ],
)
def test_every_error_of_ours_has_a_code(error: DittoError, code: str) -> None:
    refusal = refusal_of(error)
    assert refusal.code == code
    assert refusal.message


def test_a_refusal_stays_as_it_is() -> None:
    refusal = Refusal("busy", "vim uses it", "close vim")
    assert refusal_of(refusal) is refusal


def test_text_that_is_not_utf8_can_still_be_told() -> None:
    failure = failure_of(Refusal("not_found", "there is no a\udcff"))
    assert msgspec.json.decode(msgspec.json.encode(failure), type=Failure).message == "there is no a\\udcff"


def test_every_code_tells_http_and_the_shell_that_it_failed() -> None:
    assert all(400 <= fault.status < 600 and 1 <= fault.exit_code <= 5 for fault in FAULTS.values())
