"""Brings an index of an earlier version to the one that this program writes.

Owns the steps from each version to the next. A step is one transaction, the new version's number in
it: a crash, a full disk or an error leaves the file as it was. Only who may write migrates; a
read-only index of another version is refused.

An index whose rows are spread over files (shards.py) is of version 2 or later; a step that changes
segments or articles will have to change them in every file.

A step that changes replicated tables must make the next checkpoint a snapshot: changesets do not
record changed tables. (Version 1 had no checkpoints, so its first one is a snapshot anyway.)
"""

from __future__ import annotations

from typing import Final

from usenetfs.index.database import Database
from usenetfs.index.schema import ADDED_INDEXES, APPLICATION_ID, SCHEMA_VERSION

# 2: ids of inodes and segments are never given twice; what checkpoints need.
_TO_2: Final = """
CREATE TABLE new_inodes (
    id       INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    mode     INTEGER NOT NULL,
    uid      INTEGER NOT NULL,
    gid      INTEGER NOT NULL,
    nlink    INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    rdev     INTEGER NOT NULL,
    atime_ns INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL
) STRICT;
INSERT INTO new_inodes SELECT * FROM inodes ORDER BY id;
DROP TABLE inodes;
ALTER TABLE new_inodes RENAME TO inodes;
CREATE INDEX inodes_unlinked ON inodes (id) WHERE nlink = 0;
CREATE TABLE new_segments (
    id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    hash          BLOB NOT NULL,
    raw_length    INTEGER NOT NULL,
    stored_length INTEGER NOT NULL,
    codec         INTEGER NOT NULL,
    article       INTEGER NOT NULL,
    slot          INTEGER NOT NULL,
    refs          INTEGER NOT NULL
) STRICT;
INSERT INTO new_segments SELECT * FROM segments ORDER BY id;
DROP TABLE segments;
ALTER TABLE new_segments RENAME TO segments;
CREATE UNIQUE INDEX segments_hash ON segments (hash);
CREATE TABLE local_changelog (
    seq     INTEGER NOT NULL PRIMARY KEY,
    changes BLOB NOT NULL
) STRICT;
CREATE TABLE local_chain (
    key   TEXT NOT NULL PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE local_held (
    number INTEGER NOT NULL,
    part   INTEGER NOT NULL,
    data   BLOB NOT NULL,
    PRIMARY KEY (number, part)
) STRICT;
CREATE TABLE local_publication (
    number    INTEGER NOT NULL PRIMARY KEY,
    record    BLOB NOT NULL,
    container BLOB NOT NULL,
    salts     BLOB NOT NULL,
    stage     INTEGER NOT NULL,
    after     TEXT NOT NULL
) STRICT;
"""

STEPS: Final = {1: _TO_2}
"""By version: what makes the next one of it."""


def migrate(database: Database) -> list[int]:
    """Take an index to ``SCHEMA_VERSION``, step by step; the versions it went through.

    Does nothing to a file that is no index, is read-only, or of a version without a step: whoever
    opens it refuses that.
    """
    passed: list[int] = []
    if database.read_only or database.value("PRAGMA application_id") != APPLICATION_ID:
        return passed
    while (version := database.value("PRAGMA user_version")) in STEPS:
        with database.transaction():
            database.write_rows(STEPS[version])  # to the end, whatever a statement returns
            database.write(f"PRAGMA user_version = {version + 1}")
        passed.append(version)
    assert not passed or version == SCHEMA_VERSION
    if version == SCHEMA_VERSION:
        _add_indexes(database)
    return passed


def _add_indexes(database: Database) -> None:
    """What was added to this version since; a few seconds for millions of rows, once."""
    there = {row[0] for row in database.rows("SELECT name FROM sqlite_schema WHERE type = 'index'")}
    missing = [sql for name, sql in ADDED_INDEXES.items() if name not in there]
    if missing:
        with database.transaction():
            for sql in missing:
                database.write(sql)
