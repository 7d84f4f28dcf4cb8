"""What follows from other rows: link counts, reference counts, counters.

Published rows leave these out (docs/format.md, "normal form"): they run ahead of what a checkpoint
may show. Whoever builds an index from checkpoints sets them here, in bulk.

It must not know how rows got into the tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from usenetfs.index.database import Database
from usenetfs.index.totals import TotalsTable
from usenetfs.types import ROOT_INODE

BATCH: Final = 500

_DIRECTORY: Final = "(mode & 0xF000) = 0x4000"

# Names of each inode, and for each directory its subdirectories, in one pass over the names.
_LINKS = f"""
UPDATE inodes SET nlink = coalesce(found.links, 0) FROM (
    SELECT i.id AS id, CASE
        WHEN NOT (i.mode & 0xF000) = 0x4000 THEN n.names
        WHEN i.id = {ROOT_INODE} OR n.names > 0 THEN 2 + coalesce(s.children, 0)
        ELSE 0 END AS links
    FROM inodes i
    LEFT JOIN temp.names n ON n.inode = i.id
    LEFT JOIN temp.subdirectories s ON s.parent = i.id
) AS found WHERE found.id = inodes.id AND inodes.nlink IS NOT coalesce(found.links, 0)
"""


def recompute_links(database: Database) -> None:
    """Set every inode's nlink to what the names say. Inside a transaction."""
    for table in ("names", "subdirectories"):
        database.write(f"DROP TABLE IF EXISTS temp.{table}")
    database.write("CREATE TEMP TABLE names (inode INTEGER PRIMARY KEY, names INTEGER NOT NULL)")
    database.write(
        "INSERT INTO temp.names SELECT inode, count(*) FROM dirents GROUP BY inode ORDER BY inode"
    )
    database.write(
        "CREATE TEMP TABLE subdirectories (parent INTEGER PRIMARY KEY, children INTEGER NOT NULL)"
    )
    database.write(
        "INSERT INTO temp.subdirectories SELECT d.parent, count(*) FROM dirents d"
        f" CROSS JOIN inodes i ON i.id = d.inode WHERE {_DIRECTORY} GROUP BY d.parent"
    )
    database.write(_LINKS)
    for table in ("names", "subdirectories"):
        database.write(f"DROP TABLE temp.{table}")


def recompute_links_of(database: Database, inodes: Iterable[int]) -> None:
    """The same for some inodes. Inside a transaction."""
    rows = [(inode,) for inode in sorted(set(inodes))]
    for start in range(0, len(rows), BATCH):
        database.write_many(
            "UPDATE inodes SET nlink = CASE"
            f" WHEN NOT {_DIRECTORY} THEN (SELECT count(*) FROM dirents WHERE inode = ?1)"
            f" WHEN id = {ROOT_INODE} OR EXISTS (SELECT 1 FROM dirents WHERE inode = ?1) THEN 2 +"
            "  (SELECT count(*) FROM dirents d CROSS JOIN inodes i ON i.id = d.inode"
            "   WHERE d.parent = ?1 AND (i.mode & 0xF000) = 0x4000)"
            " ELSE 0 END WHERE id = ?1",
            rows[start : start + BATCH],
        )


def recompute_uses(database: Database) -> None:
    """Set segments.refs, articles.blocks and articles.bytes to what the block map says.

    Inside a transaction.
    """
    database.write("DROP TABLE IF EXISTS temp.uses")
    database.write(
        "CREATE TEMP TABLE uses"
        " (segment INTEGER PRIMARY KEY, blocks INTEGER NOT NULL, bytes INTEGER NOT NULL)"
    )
    database.write(
        "INSERT INTO temp.uses SELECT segment, count(*), sum(length) FROM blocks"
        " GROUP BY segment ORDER BY segment"
    )
    database.write(
        "UPDATE segments SET refs = coalesce("
        "(SELECT blocks FROM temp.uses WHERE segment = segments.id), 0)"
    )
    database.write("UPDATE articles SET blocks = 0, bytes = 0")
    database.write(
        "UPDATE articles SET blocks = found.blocks, bytes = found.bytes FROM ("
        "  SELECT s.article AS id, sum(u.blocks) AS blocks, sum(u.bytes) AS bytes"
        "  FROM segments s CROSS JOIN temp.uses u ON u.segment = s.id GROUP BY s.article"
        ") AS found WHERE found.id = articles.id"
    )
    database.write("DROP TABLE temp.uses")


def drop_orphans(database: Database) -> None:
    """Delete stored content that no block points to. After :func:`recompute_uses`."""
    database.write("DELETE FROM segments WHERE refs = 0")
    database.write("DELETE FROM articles WHERE blocks = 0")
    database.write("DELETE FROM message_ids WHERE article NOT IN (SELECT id FROM articles)")


def add_defaults(database: Database) -> None:
    """Count everything anew for ``status``. Inside a transaction."""
    TotalsTable(database).recount()
