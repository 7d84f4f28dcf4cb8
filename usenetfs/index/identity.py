"""A new index file, and whether a file is an index that we can use: what it says it is.

Owns the ``meta`` table, application id and version. Must not know what the other tables are for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import apsw

from usenetfs.errors import DatabaseError, SchemaVersionError
from usenetfs.index.database import Database, make_shrinkable
from usenetfs.index.inodes import COLUMNS
from usenetfs.index.migrate import STEPS
from usenetfs.index.schema import (
    APPLICATION_ID,
    CREATE_SCHEMA,
    SCHEMA_VERSION,
    SHARDED_APPLICATION_ID,
)
from usenetfs.index.shard_files import make_files, name_files
from usenetfs.index.totals import Counter


@dataclass(frozen=True, slots=True)
class FilesystemIdentity:
    """What the index says it is. ``block_size`` in bytes."""

    filesystem_id: bytes
    name: str
    block_size: int
    epoch: int
    schema_version: int


def key_check(directory_key: bytes) -> bytes:
    """Tells whether a directory key is the one the names were placed with."""
    return blake2b(b"usenetfs index", digest_size=8, key=directory_key).digest()


def build(
    path: Path,
    meta: dict[str, object],
    root: tuple[int, ...],
    *,
    shards: int = 1,
    beside: Path | None = None,
) -> None:
    """Make the file: ``meta`` and the row of the root directory, and nothing else in it; and, with
    more than one, the ``shards`` of an index that will be at ``beside``."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        make_shrinkable(connection)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(CREATE_SCHEMA)
        connection.executemany(
            "INSERT INTO meta (key, value) VALUES (?, ?)",
            list(meta.items()),
        )
        connection.executemany(
            "INSERT INTO local_totals (name, count, bytes) VALUES (?, ?, 0)",
            [(int(name), int(name is Counter.DIRECTORIES)) for name in Counter],
        )
        connection.execute(
            f"INSERT INTO inodes ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", root
        )
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", SCHEMA_VERSION)
        if shards > 1:
            name_files(connection, shards, make_files(beside or path, shards))
        connection.execute("COMMIT")
    finally:
        connection.close(True)


def identify(database: Database, directory_key: bytes) -> FilesystemIdentity:
    """What an open index is. DatabaseError, SchemaVersionError when it is not one of ours."""
    path = database.path
    kind = database.value("PRAGMA application_id")
    if kind not in (APPLICATION_ID, SHARDED_APPLICATION_ID):
        raise DatabaseError(f"{path} is not an index of usenetfs", hint="check the path")
    version = database.value("PRAGMA user_version")
    if version != SCHEMA_VERSION:
        hint = "open it once with the version that made it"
        if version > SCHEMA_VERSION:
            hint = "install a newer usenetfs"
        elif version in STEPS:
            hint = "mount it once, not read-only: that brings it to this version"
        raise SchemaVersionError(
            f"{path} has schema version {version}, this program knows {SCHEMA_VERSION}", hint=hint
        )
    meta: dict[str, Any] = dict(database.rows("SELECT key, value FROM meta"))
    try:
        identity = FilesystemIdentity(
            filesystem_id=meta["filesystem_id"],
            name=meta["name"],
            block_size=meta["block_size"],
            epoch=meta["epoch"],
            schema_version=version,
        )
        check = meta["directory_key_check"]
    except KeyError as error:
        raise DatabaseError(f"{path} is damaged: it does not say its {error.args[0]}") from error
    if check != key_check(directory_key):
        raise DatabaseError(f"{path} belongs to another filesystem's key")
    return identity
