"""What can be said and done about a filesystem that is not mounted, from its index alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from usenetfs import __version__
from usenetfs.config.directories import FilesystemPaths
from usenetfs.control.model import Amount, CacheReport, DurabilityReport, StatusReport
from usenetfs.errors import DatabaseError
from usenetfs.index.database import Database
from usenetfs.index.totals import Counter, TotalsTable

if TYPE_CHECKING:
    from usenetfs.cli.unlock import Unlocked
    from usenetfs.index.index import Index


def status_from_index(paths: FilesystemPaths) -> StatusReport:
    """The counters of the index. Needs no passphrase and disturbs nobody."""
    if not paths.index.is_file():
        raise DatabaseError(
            f'the keys of "{paths.name}" are here, and no index',
            hint=f"get it back from the servers: usenetfs recover {paths.name}",
        )
    database = Database(paths.index, read_only=True)
    try:
        counters = TotalsTable(database).read()
        block_size = database.value("SELECT value FROM meta WHERE key = 'block_size'")
    finally:
        database.close()

    def amount(*which: Counter) -> Amount:
        return Amount(
            bytes=sum(counters[c].bytes for c in which),
            blocks=sum(counters[c].count for c in which),
        )

    articles, octets = cache_usage(paths)
    return StatusReport(
        name=paths.name,
        version=__version__,
        files=counters[Counter.FILES].count,
        directories=counters[Counter.DIRECTORIES].count,
        bytes=counters[Counter.FILES].bytes,
        block_size=int(block_size),
        durability=DurabilityReport(
            staged=amount(Counter.STAGING_DIRTY, Counter.STAGING_UPLOADING),
            posted=amount(Counter.STAGING_POSTED),
            seen=amount(Counter.BLOCKS_SEEN),
            verified=amount(Counter.BLOCKS_VERIFIED),
        ),
        cache=CacheReport(bytes=octets, articles=articles),
    )


@contextlib.contextmanager
def open_index(
    paths: FilesystemPaths, unlocked: Unlocked, *, read_only: bool = True
) -> Iterator[Index]:
    """The index of an unlocked filesystem; read-only it may be open beside a daemon."""
    from usenetfs.article.keys import KeySet
    from usenetfs.index.index import Index

    keys = KeySet.from_master(unlocked.master_key, unlocked.filesystem_id)
    with Index.open(paths.index, directory_key=keys.directory_key, read_only=read_only) as index:
        yield index


def cache_usage(paths: FilesystemPaths) -> tuple[int, int]:
    """Files in the cache of articles, and the octets they hold."""
    count = octets = 0
    for folder, _, names in os.walk(paths.articles):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # evicted meanwhile
                octets += os.lstat(f"{folder}/{name}").st_size
                count += 1
    return count, octets
