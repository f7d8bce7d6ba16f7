"""POSIX ACLs as Linux keeps them in `system.posix_acl_*` (linux/posix_acl_xattr.h, version 2)."""

import struct
from typing import NamedTuple

from dittofs.errors import FormatError

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_TAGS = (USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER)
_VERSION = 2
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
ENTRIES_MAX = 1024


class AclEntry(NamedTuple):
    tag: int
    permissions: int
    identity: int


Acl = list[AclEntry]


def parse(value: bytes) -> Acl:
    """Read an ACL. Raises FormatError unless it is one the kernel would accept."""
    if len(value) < 4 or _HEADER.unpack_from(value)[0] != _VERSION or (len(value) - 4) % _ENTRY.size:
        raise FormatError("not a POSIX ACL of version 2")
    acl = [AclEntry(*fields) for fields in _ENTRY.iter_unpack(value[4:])]
    tags = [entry.tag for entry in acl]
    if len(acl) > ENTRIES_MAX or any(entry.permissions > 7 or entry.tag not in _TAGS for entry in acl):
        raise FormatError("a POSIX ACL with impossible entries")
    if acl and any(tags.count(tag) != 1 for tag in (USER_OBJ, GROUP_OBJ, OTHER)):
        raise FormatError("a POSIX ACL without its three base entries")
    if tags.count(MASK) > 1 or (MASK not in tags and (USER in tags or GROUP in tags)):
        raise FormatError("a POSIX ACL without its mask")
    return acl


def serialise(acl: Acl) -> bytes:
    """The stored form of an ACL."""
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in acl)


def mode_of(acl: Acl, mode: int) -> int:
    """`mode` with the permission bits that `acl` stands for (acl(5), correspondence)."""
    by_tag = {entry.tag: entry.permissions for entry in acl}
    group = by_tag.get(MASK, by_tag[GROUP_OBJ])
    return (mode & ~0o777) | by_tag[USER_OBJ] << 6 | group << 3 | by_tag[OTHER]


def is_minimal(acl: Acl) -> bool:
    """Whether the permission bits say all of it."""
    return len(acl) == 3


def with_mode(acl: Acl, mode: int) -> Acl:
    """`acl` after chmod to `mode`."""
    group_tag = GROUP_OBJ if is_minimal(acl) else MASK
    changed = {USER_OBJ: mode >> 6 & 7, group_tag: mode >> 3 & 7, OTHER: mode & 7}
    return [entry._replace(permissions=changed.get(entry.tag, entry.permissions)) for entry in acl]


def inherit(default: Acl, mode: int) -> tuple[int, Acl | None]:
    """Mode and access ACL of something made in a directory with a default ACL (acl(5), object creation).

    The umask does not count there. The access ACL is None when the mode says it all.
    """
    allowed = {USER_OBJ: mode >> 6 & 7, MASK: mode >> 3 & 7, OTHER: mode & 7}
    if is_minimal(default):
        allowed[GROUP_OBJ] = allowed.pop(MASK)
    access = [entry._replace(permissions=entry.permissions & allowed.get(entry.tag, 7)) for entry in default]
    return mode_of(access, mode), None if is_minimal(access) else access
