"""Attributes that stay on this device: extended ones of the system's namespaces, and access times."""

from dittofs.volume.inodes import Inode
from dittofs.volume.replica import Replica


class LocalAttributes:
    """Rows of the journal that no other device sees."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._may_be_any: bool | None = None
        """False: no inode has an extended one. Every `ls -l` and first write of a file asks for one."""

    def names(self, inode: Inode) -> list[bytes]:
        """Of all extended ones."""
        rows = self._replica.journal.scan_local("xattr", _key(inode, b""))
        return [key.split(b"\0", 1)[1] for key, _ in rows]

    def get(self, inode: Inode, name: bytes) -> bytes | None:
        """An extended one; None if it is not set."""
        journal = self._replica.journal
        if self._may_be_any is None:
            bad: list[bytes] = []
            self._may_be_any = any(True for _ in journal.scan_local("xattr", b"", bad)) or bool(bad)
        return journal.get_local("xattr", _key(inode, name)) if self._may_be_any else None

    def put(self, inode: Inode, name: bytes, value: bytes) -> None:
        """Set an extended one."""
        self._may_be_any = True
        with self._replica.change():
            self._replica.journal.put_local("xattr", _key(inode, name), value)

    def remove(self, inode: Inode, name: bytes) -> None:
        """Remove an extended one."""
        with self._replica.change():
            self._replica.journal.delete_local("xattr", _key(inode, name))

    def atime(self, inode: Inode) -> int | None:
        """The access time that a program set."""
        value = self._replica.journal.get_local("atime", inode.id.encode("ascii"))
        return None if value is None else int.from_bytes(value, "big", signed=True)

    def put_atime(self, inode: Inode, atime: int) -> None:
        """A program set the access time."""
        with self._replica.change():
            self._replica.journal.put_local(
                "atime", inode.id.encode("ascii"), atime.to_bytes(8, "big", signed=True)
            )


def _key(inode: Inode, name: bytes) -> bytes:
    return inode.id.encode("ascii") + b"\0" + name
