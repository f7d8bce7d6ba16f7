"""Rows that exist on this device only: `local` (by kind and key) and `meta` (by name)."""

from collections.abc import Iterator
from typing import Final

from blake3 import blake3

from dittofs.errors import Damaged
from dittofs.journal.damage import Damage
from dittofs.journal.statements import Statements, before_end_of

SUM_BYTES = 16
PAGE_ROWS = 512
UNWRITTEN_ROWS_MAX: Final = 4096
"""Of one transaction, of the index and of the history each, in memory: 2 MB."""
_PAGE = f"ORDER BY key LIMIT {PAGE_ROWS}"
_LENGTHS: Final = tuple(length.to_bytes(4, "big") for length in range(512))
_PUT_LOCAL = "INSERT OR REPLACE INTO local VALUES(?,?,?,?)"


class Rows:
    """Every row read has passed its checksum; otherwise `Damaged` names its kind or key."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def put_local(self, kind: str, key: bytes, value: bytes) -> None:
        row = (kind, key, value, checksum(kind.encode(), key, value))
        self._statements.run(f"local rows of kind {kind}", _PUT_LOCAL, row)

    def delete_local(self, kind: str, key: bytes) -> None:
        self._statements.run(
            f"local rows of kind {kind}", "DELETE FROM local WHERE kind=? AND key=?", (kind, key)
        )

    def get_local(self, kind: str, key: bytes) -> bytes | None:
        sql = "SELECT value, sum FROM local WHERE kind=? AND key=?"
        for value, found in self._statements.rows(f"local rows of kind {kind}", sql, (kind, key)):
            self._verify(kind, key, value, found)
            return bytes(value)
        return None

    def scan_local(
        self, kind: str, prefix: bytes, bad: list[bytes] | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        below, bound = before_end_of(prefix)
        operator, last = ">=", prefix
        while True:
            sql = f"SELECT key, value, sum FROM local WHERE kind=? AND key{operator}?{below} {_PAGE}"
            rows = self._statements.rows(f"local rows of kind {kind}", sql, (kind, last, *bound))
            for key, value, found in rows:
                try:
                    self._verify(kind, key, value, found)
                except Damaged:
                    if bad is None:
                        raise
                    bad.append(key)
                else:
                    yield key, value
            if len(rows) < PAGE_ROWS:
                return
            operator, last = ">", rows[-1][0]

    def _verify(self, kind: str, key: bytes, value: bytes, found: bytes) -> None:
        if found != checksum(kind.encode(), key, value):
            raise Damaged(f"{self._statements.path}: local row {kind} {key.hex()}", "its checksum differs")

    def get_meta(self, key: str) -> bytes | None:
        rows = self._statements.rows(f"meta row {key}", "SELECT value, sum FROM meta WHERE key=?", (key,))
        if not rows:
            return None
        value: bytes = rows[0][0]
        if rows[0][1] != checksum(b"", key.encode(), value):
            raise Damaged(f"{self._statements.path}: meta row {key}", "its checksum differs")
        return value

    def put_meta(self, key: str, value: bytes) -> None:
        row = (key, value, checksum(b"", key.encode(), value))
        self._statements.run(f"meta row {key}", "INSERT OR REPLACE INTO meta VALUES(?,?,?)", row)

    def check(self) -> Iterator[Damage]:
        try:
            kinds = self._statements.rows("local rows", "SELECT DISTINCT kind FROM local")
            keys = self._statements.rows("meta rows", "SELECT key FROM meta")
        except Damaged as error:
            yield Damage(error.what, str(error))
            return
        for (kind,) in kinds:
            try:
                for _ in self.scan_local(kind, b""):
                    pass
            except Damaged as error:
                yield Damage(error.what, str(error))
        for (key,) in keys:
            try:
                self.get_meta(key)
            except Damaged as error:
                yield Damage(error.what, str(error))


def checksum(*parts: bytes) -> bytes:
    """16 bytes of BLAKE3 over the parts and their lengths."""
    try:
        pieces = [_LENGTHS[len(part)] + part for part in parts]
    except IndexError:
        pieces = [len(part).to_bytes(4, "big") + part for part in parts]
    return blake3(b"".join(pieces)).digest(SUM_BYTES)
