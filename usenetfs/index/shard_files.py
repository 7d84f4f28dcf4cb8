"""The files that rows are spread over: made, attached, removed.

They lie beside the index, ``index.shard-00.db`` beside ``index.db``, and are part of it: main says
how many there are (``local_meta``), and each has main's stamp and its own number. They are made
before main is there, or names them; so a crash leaves files that nobody names, which the next who
makes an index there removes.

Must not know what rows are in which file (shards.py).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any, Final

import apsw

from usenetfs.errors import DatabaseError
from usenetfs.index.database import Database, make_shrinkable, sync_directory
from usenetfs.index.schema import CREATE_CLAIMED, CREATE_SHARD, SHARDED_APPLICATION_ID
from usenetfs.index.shards import COUNT, LOCK_MAIN, MOST, STAMP, ShardedRows, schema_of

STAMP_BYTES: Final = 8


def shard_path(index: Path, shard: int) -> Path:
    return index.with_name(f"{index.stem}.shard-{shard:02}{index.suffix}")


def shard_files(index: Path) -> list[Path]:
    """Everything beside ``index`` that is of its shards, their logs included."""
    return sorted(index.parent.glob(f"{index.stem}.shard-[0-9][0-9]{index.suffix}*"))


def check_count(count: int) -> None:
    """DatabaseError for a number of files that cannot be."""
    if not 1 <= count <= MOST:
        raise DatabaseError(f"an index has 1 to {MOST} files for its content, not {count}")


def make_files(index: Path, count: int) -> bytes:
    """Make empty files for an index that is not there yet, durably; what they are stamped with.

    apsw.Error, OSError.
    """
    for left_over in shard_files(index):
        left_over.unlink()
    stamp = secrets.token_bytes(STAMP_BYTES)
    for shard in range(count):
        path = shard_path(index, shard)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            make_shrinkable(connection)
            connection.pragma("journal_mode", "wal")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(CREATE_SHARD)
            connection.execute(
                "INSERT INTO shard (stamp, number, count) VALUES (?, ?, ?)", (stamp, shard, count)
            )
            connection.execute("COMMIT")
        finally:
            connection.close(True)
    sync_directory(index.parent)
    return stamp


def name_files(connection: apsw.Connection, count: int, stamp: bytes) -> None:
    """Main says from now on that its rows are spread. Inside a transaction."""
    connection.execute(CREATE_CLAIMED)
    connection.executemany(
        "INSERT INTO local_meta (key, value) VALUES (?, ?)", [(COUNT, count), (STAMP, stamp)]
    )
    connection.pragma("application_id", SHARDED_APPLICATION_ID)


def attach(database: Database) -> int:
    """Attach the files that an index names, for reading; their number, 1 if there are none beside
    main. DatabaseError if one is missing, or is not of this index."""
    known: dict[str, Any] = dict(
        database.rows("SELECT key, value FROM local_meta WHERE key IN (?, ?)", (COUNT, STAMP))
    )
    count = int(known.get(COUNT, 1))
    if count == 1:
        return 1
    check_count(count)
    paths = {schema_of(shard): shard_path(database.path, shard) for shard in range(count)}
    for path in paths.values():
        if not path.is_file():
            raise _not_of_it(path, "is not there")
    database.attach(paths, lock=LOCK_MAIN)
    for shard, (schema, path) in enumerate(paths.items()):
        try:
            row = database.row(f"SELECT stamp, number, count FROM {schema}.shard")
        except DatabaseError as error:
            raise _not_of_it(path, f"cannot be read ({error.message})") from error
        if row != (known.get(STAMP), shard, count):
            raise _not_of_it(path, "is of another index")
    return count


def _not_of_it(path: Path, what: str) -> DatabaseError:
    return DatabaseError(
        f"{path} {what}, and the index is not whole without it",
        hint="put it back from where it was moved; usenetfs recover rebuilds an index",
    )


def rows_of_cut(connection: apsw.Connection, index: Path, count: int) -> ShardedRows:
    """The rows of another connection to an index, which is open for reading."""
    for shard in range(count) if count > 1 else ():
        connection.execute(f"ATTACH ? AS {schema_of(shard)}", (str(shard_path(index, shard)),))
    return ShardedRows(lambda sql, bindings: connection.execute(sql, bindings).fetchall(), count)
