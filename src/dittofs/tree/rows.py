"""The index rows as values, behind bounded caches.

Everything is written through to the store at once, but the totals and states: those at `flush`. Nothing here
decides what a row should hold (that is placement.py); whoever finds a row damaged lets the store's own error
pass.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import msgspec

from dittofs.errors import FormatError
from dittofs.ids import InodeId, Number, Slot, Stamp
from dittofs.tree import encoding
from dittofs.tree.index import IndexStore
from dittofs.tree.record import Forward, Record, Ref, covers, key_of
from dittofs.tree.rules import Claim, Meaning, meaning_of
from dittofs.tree.settings import Settings
from dittofs.tree.states import States

INODES_CACHED_MAX = 4_096
CLAIMS_CACHED_MAX = 8_192
DIRECTORIES_CACHED_MAX = 2_048
INODE_CHARACTERS = 16

K = TypeVar("K")
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """A mapping that forgets what was not used for longest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        value = self._items.pop(key, None)
        if value is not None:
            self._items[key] = value
        return value

    def put(self, key: K, value: V) -> None:
        self._items.pop(key, None)
        self._items[key] = value
        if len(self._items) > self._size:
            del self._items[next(iter(self._items))]

    def discard(self, key: K) -> None:
        self._items.pop(key, None)

    def clear(self) -> None:
        self._items.clear()


@dataclass(slots=True)
class Inode:
    """An inode's joined records, and what they mean."""

    id: InodeId
    record: Record | None
    links: dict[str, Record]
    meaning: Meaning | None
    """None while the inode's own record has not arrived."""
    _latest: Stamp | None = None

    @property
    def latest(self) -> Stamp:
        """The greatest stamp in its records."""
        if self._latest is None:
            records = self.links.values() if self.record is None else (self.record, *self.links.values())
            self._latest = max(record.latest for record in records)
        return self._latest


class Directory(msgspec.Struct, array_like=True):
    """What is counted of a directory, or of an unknown parent."""

    live: int = 0
    """Claims in it."""
    subdirectories: int = 0
    """Names in it that show a directory."""
    special: int = 0
    """Names in it that show more or other than one claim."""
    first_shown: int = 0
    """When this device showed it first, nanoseconds; 0: long ago."""
    mtime: int = 0
    touched: int = 0
    """When its entries last changed, by this device's clock, nanoseconds."""


class Totals(msgspec.Struct, array_like=True):
    """What is counted of the whole tree."""

    files: int = 0
    directories: int = 0
    bytes: int = 0
    conflicts: int = 0
    merged: int = 0
    """Names of one directory that several directories claim."""
    contested: int = 0
    """Numbers that several things claim."""
    awaited: int = 0
    unknown: int = 0


class Held(NamedTuple):
    """One claim of a name: flag `D`, `N` or `C`, and the record that makes it."""

    flag: str
    key: str


_NO_CLAIMS: tuple[Held, ...] = ()


_NumberRow = list[tuple[str, bool, int, int, list[tuple[str, int]]]]
"""Inode, whether the number is its own, rank, face, and the lineage of a conflict entry, its dot last."""


class Rows:
    """The tables of an `IndexStore`, typed."""

    def __init__(self, store: IndexStore) -> None:
        self._store = store
        self._inodes: Bounded[InodeId, Inode] = Bounded(INODES_CACHED_MAX)
        self._claims: Bounded[bytes, tuple[Held, ...]] = Bounded(CLAIMS_CACHED_MAX)
        self._directories: Bounded[InodeId, Directory] = Bounded(DIRECTORIES_CACHED_MAX)
        self._directory_decoder = msgspec.msgpack.Decoder(Directory)
        self._number_decoder = msgspec.msgpack.Decoder(_NumberRow)
        self._encode = msgspec.msgpack.Encoder().encode
        self._displaced: dict[InodeId, tuple[InodeId, bytes]] | None = None
        self._totals: Totals | None = None
        self._totals_stored = b""
        self.states = States(store)
        self.settings = Settings(store)

    def forget(self) -> None:
        """Drop everything that is cached, unwritten totals too: the store was rolled back."""
        self._inodes.clear()
        self._claims.clear()
        self._directories.clear()
        self._displaced = None
        self._totals = None
        self.states.forget()
        self.settings.forget()

    # -- records

    def inode(self, inode: InodeId) -> Inode:
        """What is known of an inode; without any record if nothing is."""
        found = self._inodes.get(inode)
        if found is None:
            found = self._load(inode)
            self._inodes.put(inode, found)
        return found

    def _load(self, inode: InodeId) -> Inode:
        row = self._store.get("record", inode.encode("ascii"))
        record = None
        has_links = True
        if row is not None:
            has_links = row[0] != 0
            record = encoding.decode(row[1:], encoding.JOINED_BYTES_MAX)
        links: dict[str, Record] = {}
        if has_links:
            names = self._store.get("links", inode.encode("ascii"))
            for link in names.decode("ascii").split(",") if names else ():
                stored = self._store.get("record", key_of(inode, link).encode("ascii"))
                if stored is None:
                    raise FormatError(f"the index lacks name {link} of inode {inode}")
                links[link] = encoding.decode(stored[1:], encoding.JOINED_BYTES_MAX)
        return self._made(inode, record, links)

    def _made(self, inode: InodeId, record: Record | None, links: dict[str, Record]) -> Inode:
        meaning = None if record is None else meaning_of(record, links, self.has_seen)
        return Inode(inode, record, links, meaning)

    def has_seen(self, forward: Forward) -> bool:
        """Whether the target of a forward has seen its save."""
        # Not through `inode`: whether the target waits for others in its turn does not matter here.
        known = self._inodes.get(forward.target)
        if known is not None:
            target = known.record
        else:
            row = self._store.get("record", forward.target.encode("ascii"))
            target = None if row is None else encoding.decode(row[1:], encoding.JOINED_BYTES_MAX)
        return target is not None and covers(target.context, (forward.slot, forward.n))

    def put_records(self, inode: InodeId, records: Mapping[str, Record], raw: Mapping[str, bytes]) -> Inode:
        """Set records of one inode, by link; `raw` are their bytes. Returns the inode as it is then."""
        before = self.inode(inode)
        record = records.get("", before.record)
        links = before.links
        key = inode.encode("ascii")
        if any(link and link not in links for link in records):
            links = dict(sorted({**links, **{link: one for link, one in records.items() if link}}.items()))
            self._store.put("links", key, ",".join(links).encode("ascii"))
            if record is not None and not before.links and "" not in records:
                self._store.put("record", key, b"\1" + encoding.encode(record, encoding.JOINED_BYTES_MAX))
        elif len(records) > 1 or "" not in records:
            links = {**links, **{link: one for link, one in records.items() if link}}
        flag = b"\1" if links else b"\0"
        for link, value in raw.items():
            if link:
                self._store.put("record", key_of(inode, link).encode("ascii"), b"\0" + value)
            else:
                self._store.put("record", key, flag + value)
        made = self._made(inode, record, links)
        self._inodes.put(inode, made)
        return made

    def remake(self, inode: InodeId) -> Inode:
        """The inode, its meaning worked out afresh: a save it waited for has arrived."""
        before = self.inode(inode)
        made = self._made(inode, before.record, before.links)
        self._inodes.put(inode, made)
        return made

    def raw_records(self) -> Iterable[tuple[bytes, bytes]]:
        """Every record key, with its row."""
        return self._store.scan("record", b"")

    # -- claims

    def claims(self, parent: InodeId, name: bytes) -> tuple[Held, ...]:
        """Who is shown in `parent` by `name`."""
        key = parent.encode("ascii") + name
        found = self._claims.get(key)
        if found is None:
            row = self._store.get("claim", key)
            found = _NO_CLAIMS if row is None else _split_claims(row)
            self._claims.put(key, found)
        return found

    def put_claims(self, parent: InodeId, name: bytes, claims: tuple[Held, ...]) -> None:
        key = parent.encode("ascii") + name
        if claims:
            row = b"\0".join((held.flag + held.key).encode("ascii") for held in claims)
            self._store.put("claim", key, row)
        else:
            self._store.delete("claim", key)
        self._claims.put(key, claims)

    def all_claims(self, parent: InodeId) -> Iterable[tuple[bytes, tuple[Held, ...]]]:
        """Every name in `parent` with its claims."""
        for key, row in self._store.scan("claim", parent.encode("ascii")):
            yield key[INODE_CHARACTERS:], _split_claims(row)

    # -- special names

    def set_special(self, parent: InodeId, name: bytes, special: bool) -> None:
        if special:
            self._store.put("special", parent.encode("ascii") + name, b"")
        else:
            self._store.delete("special", parent.encode("ascii") + name)

    def is_special(self, parent: InodeId, name: bytes) -> bool:
        """Whether `name` shows more or other than its one claim."""
        if not self.directory(parent).special:
            return False
        return self._store.get("special", parent.encode("ascii") + name) is not None

    def special_names(self, parent: InodeId) -> list[bytes]:
        if not self.directory(parent).special:
            return []
        return [key[INODE_CHARACTERS:] for key, _ in self._store.scan("special", parent.encode("ascii"))]

    def special_parents(self) -> set[InodeId]:
        """Where there are special names."""
        return {
            InodeId(key[:INODE_CHARACTERS].decode("ascii")) for key, _ in self._store.scan("special", b"")
        }

    # -- directories

    def directory(self, inode: InodeId) -> Directory:
        """The counts of a directory; zeros if it has no row. Change it, then `put_directory`."""
        found = self._directories.get(inode)
        if found is None:
            row = self._store.get("directory", inode.encode("ascii"))
            found = Directory() if row is None else self._directory_decoder.decode(row)
            self._directories.put(inode, found)
        return found

    def put_directory(self, inode: InodeId, directory: Directory) -> None:
        self._store.put("directory", inode.encode("ascii"), self._encode(directory))
        self._directories.put(inode, directory)

    # -- numbers

    def claimants(self, number: Number) -> list[tuple[Ref, Claim]]:
        """Who would like to show `number`."""
        row = self._store.get("number", number.to_bytes(8, "big"))
        if row is None:
            return []
        found = []
        for inode, own, rank, face, dots in self._number_decoder.decode(row):
            lineage = tuple((Slot(slot), n) for slot, n in dots)
            dot = lineage[-1] if lineage else None
            claim = Claim(number, dot, own, Stamp(rank), Number(face), lineage)
            found.append(((InodeId(inode), dot), claim))
        return found

    def put_claimants(self, number: Number, claimants: Iterable[tuple[Ref, Claim]]) -> None:
        rows = [
            (inode, claim.is_own, claim.rank, claim.face, claim.lineage) for (inode, _), claim in claimants
        ]
        if rows:
            self._store.put("number", number.to_bytes(8, "big"), self._encode(rows))
        else:
            self._store.delete("number", number.to_bytes(8, "big"))

    # -- the rest

    @property
    def displaced(self) -> Mapping[InodeId, tuple[InodeId, bytes]]:
        """Where directories are shown that were moved below themselves."""
        if self._displaced is None:
            self._displaced = {
                InodeId(key.decode("ascii")): (
                    InodeId(row[:INODE_CHARACTERS].decode("ascii")),
                    row[INODE_CHARACTERS:],
                )
                for key, row in self._store.scan("displaced", b"")
            }
        return self._displaced

    def set_displaced(self, inode: InodeId, to: tuple[InodeId, bytes] | None) -> None:
        displaced = dict(self.displaced)
        if to is None:
            displaced.pop(inode, None)
            self._store.delete("displaced", inode.encode("ascii"))
        else:
            displaced[inode] = to
            self._store.put("displaced", inode.encode("ascii"), to[0].encode("ascii") + to[1])
        self._displaced = displaced

    def unknown_parents(self) -> list[InodeId]:
        """Parents with entries that are not known as directories."""
        if not self.totals.unknown:
            return []
        return [InodeId(key.decode("ascii")) for key, _ in self._store.scan("unknown", b"")]

    def set_unknown(self, parent: InodeId, unknown: bool) -> None:
        key = parent.encode("ascii")
        if (self._store.get("unknown", key) is not None) == unknown:
            return
        if unknown:
            self._store.put("unknown", key, b"")
        else:
            self._store.delete("unknown", key)
        self.totals.unknown += 1 if unknown else -1

    def awaiting(self, target: InodeId) -> list[InodeId]:
        """The inodes with a save that waits for `target`."""
        if not self.totals.awaited:
            return []
        rows = self._store.scan("awaited", target.encode("ascii"))
        return [InodeId(key[INODE_CHARACTERS:].decode("ascii")) for key, _ in rows]

    def set_awaiting(self, target: InodeId, source: InodeId, waits: bool) -> None:
        key = (target + source).encode("ascii")
        if (self._store.get("awaited", key) is not None) == waits:
            return
        if waits:
            self._store.put("awaited", key, b"")
        else:
            self._store.delete("awaited", key)
        self.totals.awaited += 1 if waits else -1

    @property
    def totals(self) -> Totals:
        """Change them in place; `flush` writes them."""
        if self._totals is None:
            row = self._store.get("total", b"")
            self._totals = Totals() if row is None else msgspec.msgpack.decode(row, type=Totals)
            self._totals_stored = self._encode(self._totals)
        return self._totals

    def flush(self, greatest: Stamp) -> None:
        """Write the totals and the states of documents. `greatest`: the clock's."""
        self.states.flush(greatest)
        if self._totals is not None:
            row = self._encode(self._totals)
            if row != self._totals_stored:
                self._store.put("total", b"", row)
                self._totals_stored = row


def _split_claims(row: bytes) -> tuple[Held, ...]:
    return tuple(Held(part[:1], part[1:]) for part in row.decode("ascii").split("\0"))
