"""POSIX ACLs: what the kernel would accept, and what a directory hands down."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dittofs.errors import FormatError
from dittofs.volume.acl import (
    GROUP,
    GROUP_OBJ,
    MASK,
    OTHER,
    USER,
    USER_OBJ,
    AclEntry,
    inherit,
    is_minimal,
    mode_of,
    parse,
    serialise,
    with_mode,
)

NOBODY = 0xFFFFFFFF
BASE = [AclEntry(USER_OBJ, 7, NOBODY), AclEntry(GROUP_OBJ, 5, NOBODY), AclEntry(OTHER, 0, NOBODY)]
EXTENDED = [
    AclEntry(USER_OBJ, 7, NOBODY),
    AclEntry(USER, 6, 1001),
    AclEntry(GROUP_OBJ, 5, NOBODY),
    AclEntry(GROUP, 4, 1002),
    AclEntry(MASK, 6, NOBODY),
    AclEntry(OTHER, 1, NOBODY),
]


def test_an_acl_comes_back_from_its_stored_form() -> None:
    assert parse(serialise(EXTENDED)) == EXTENDED
    # Known answer: version 2, user::rwx in little-endian.
    assert serialise(BASE)[:12].hex() == "020000000100070" + "0ffffffff"


@given(st.binary(max_size=80))
def test_any_bytes_are_an_acl_or_one_clear_error(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        assert serialise(parse(data)) == data


def test_an_acl_with_named_entries_needs_its_mask() -> None:
    with pytest.raises(FormatError):
        parse(serialise([entry for entry in EXTENDED if entry.tag != MASK]))


def test_the_mask_is_what_the_group_bits_show() -> None:
    assert mode_of(EXTENDED, 0o4000) == 0o4761
    assert mode_of(BASE, 0) == 0o750


def test_chmod_changes_the_mask_of_an_extended_acl_and_the_group_of_a_minimal_one() -> None:
    changed = {entry.tag: entry.permissions for entry in with_mode(EXTENDED, 0o640)}
    assert (changed[USER_OBJ], changed[MASK], changed[GROUP_OBJ], changed[OTHER]) == (6, 4, 5, 0)
    changed = {entry.tag: entry.permissions for entry in with_mode(BASE, 0o640)}
    assert (changed[USER_OBJ], changed[GROUP_OBJ], changed[OTHER]) == (6, 4, 0)


def test_what_is_made_in_a_directory_gets_its_default_acl_within_the_asked_mode() -> None:
    mode, access = inherit(EXTENDED, 0o640)
    assert mode == 0o640
    assert access is not None
    assert not is_minimal(access)
    mode, access = inherit(BASE, 0o666)
    assert (mode, access) == (0o640, None)
