"""The tables of a journal file. docs/reference/disk.md says what each column holds."""

from typing import Final

APPLICATION_ID: Final = 0x44_49_54_4A  # "DITJ"
FORMAT_VERSION: Final = 3
WITHOUT_REDO: Final = 2
"""A file of this format becomes one of the present one by `REDO_TABLE`."""
PAGE_BYTES: Final = 4096
PAGE_CHECKSUM_BYTES: Final = 8

INDEX_TABLES: Final = """
CREATE TABLE entry_table(tbl INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE entry(tbl INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY(tbl, key)) WITHOUT ROWID, STRICT;
"""

REDO_TABLE: Final = """
CREATE TABLE redo(id INTEGER PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT;
"""

TABLES: Final = f"""
CREATE TABLE snapshot(shard INTEGER PRIMARY KEY, through INTEGER NOT NULL, epoch INTEGER NOT NULL,
    digest BLOB NOT NULL, codec INTEGER NOT NULL, size INTEGER NOT NULL, blob BLOB NOT NULL,
    hash BLOB NOT NULL) STRICT;
CREATE TABLE log(shard INTEGER NOT NULL, seq INTEGER NOT NULL, grp INTEGER NOT NULL, epoch INTEGER NOT NULL,
    digest BLOB NOT NULL, "update" BLOB NOT NULL, via BLOB NOT NULL, hash BLOB NOT NULL,
    PRIMARY KEY(shard, seq)) WITHOUT ROWID, STRICT;
CREATE TABLE history(at INTEGER NOT NULL, id INTEGER NOT NULL, hlc INTEGER NOT NULL, slot TEXT NOT NULL,
    inode TEXT NOT NULL, kind TEXT NOT NULL, source TEXT, target TEXT, before BLOB NOT NULL,
    after BLOB NOT NULL, sum BLOB NOT NULL, PRIMARY KEY(at, id)) WITHOUT ROWID, STRICT;
CREATE INDEX history_inode ON history(inode, at);
CREATE INDEX history_source ON history(source, at) WHERE source IS NOT NULL;
CREATE INDEX history_target ON history(target, at) WHERE target IS NOT NULL;
CREATE TABLE local(kind TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, sum BLOB NOT NULL,
    PRIMARY KEY(kind, key)) WITHOUT ROWID, STRICT;
CREATE TABLE meta(key TEXT PRIMARY KEY, value BLOB NOT NULL, sum BLOB NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE damaged(id INTEGER PRIMARY KEY, what TEXT NOT NULL, detail TEXT NOT NULL,
    row BLOB NOT NULL) STRICT;
{REDO_TABLE}{INDEX_TABLES}
"""
