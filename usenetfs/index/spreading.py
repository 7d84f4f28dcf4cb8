"""An index of one file that was just rebuilt is spread over several, all at once.

Nobody has it open or knows of it yet, and a crash leaves what is to be thrown away. So each file is
written in one go and synced at its end: a fraction of what moving rows costs while an index is in
use (settling.py).

It must not know what the rows mean.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import apsw

from usenetfs.index.database import Database, translate, translate_os_error
from usenetfs.index.shard_files import check_count, make_files, name_files, shard_path
from usenetfs.index.shards import KINDS, is_of_shard, shard_of_hash


def spread(index: Path, count: int) -> None:
    """Spread the rows of an index that has one file. DatabaseError, DiskFullError."""
    check_count(count)
    if count == 1:
        return
    try:
        stamp = make_files(index, count)
        _fill_files(index, count)
        database = Database(index)
        try:
            with database.transaction():
                name_files(database.connection, count, stamp)
                for table in KINDS:
                    database.write(f"DELETE FROM {table}")
            database.shrink(database.pages()[0])
        finally:
            database.close()
    except apsw.Error as error:
        raise translate(error, index) from error
    except OSError as error:
        raise translate_os_error(error, f"{index} cannot be spread: {error.strerror}") from error


def _fill_files(index: Path, count: int) -> None:
    connection = apsw.Connection(str(index), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        _sort_hashes(connection, count)
        for shard in range(count):
            path = shard_path(index, shard)
            connection.execute("ATTACH ? AS file", (str(path),))
            # what is half written when this ends early is thrown away
            connection.pragma("synchronous", "off", schema="file")
            connection.pragma("journal_mode", "off", schema="file")
            _fill_file(connection, shard, count)
            connection.pragma("journal_mode", "wal", schema="file")
            connection.execute("DETACH file")
            _sync(path)
    finally:
        connection.close(True)


def _sort_hashes(connection: apsw.Connection, count: int) -> None:
    """By file and hash, so that each file gets its entries in their order."""

    def of_hash(*bindings: Any) -> int:
        return shard_of_hash(bindings[0], count)

    connection.create_scalar_function("shard_of_hash", of_hash, 1, deterministic=True)
    connection.execute(
        "CREATE TEMP TABLE entries (shard INTEGER, hash BLOB, segment INTEGER,"
        " PRIMARY KEY (shard, hash)) WITHOUT ROWID;"
        "INSERT INTO temp.entries SELECT shard_of_hash(hash), hash, id FROM main.segments"
        " ORDER BY 1, 2"
    )


def _fill_file(connection: apsw.Connection, shard: int, count: int) -> None:
    connection.execute("BEGIN")
    for table in KINDS:
        connection.execute(
            f"INSERT INTO file.{table} SELECT * FROM main.{table}"
            f" WHERE {is_of_shard()} ORDER BY id",
            (count, shard),
        )
    connection.execute(
        "INSERT INTO file.segment_hashes SELECT hash, segment FROM temp.entries"
        " WHERE shard = ? ORDER BY hash",
        (shard,),
    )
    connection.execute("COMMIT")


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
