"""Read-ahead: what a reader will want next is fetched before it asks.

What to fetch is decided by :class:`ReadAhead` (one per open file, for the blocks of a long one) and
:class:`Neighbours` (for small files that are read one after the other); here it is carried out:
what is staged, sparse, in memory or on its way is passed over, the rest is fetched in the
read-ahead lane, behind every waiting reader.

Rules:

- All readers together are ahead by ``budget`` bytes at most; those that read in order now share it
  evenly, and each may have at least :data:`LEAST` blocks.
- Of a reader's blocks only so many are under way at once as fill the line (``in_flight.py``): a
  slow reader does not take it from others in bursts, and for a quick one the number grows until it
  is served or has its share of the budget.
- The first block of a file comes first: fetching ahead begins when it is there.
- A seek or the close of the file gives up what was asked for and has not left for a server yet.
- A fetch that fails is no error here: the reader will ask itself and hear the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import trio

from usenetfs.index.articles import Article
from usenetfs.index.blocks import BlockLocation
from usenetfs.index.index import Index
from usenetfs.transfer.fetch.fetcher import Fetcher
from usenetfs.transfer.fetch.neighbours import Neighbours
from usenetfs.transfer.fetch.readahead import ReadAhead
from usenetfs.types import ArticleId, BlockNumber, InodeId

LEAST = 2
"""Blocks that each reader may be ahead, however many they are."""

ACTIVE = 5.0
"""Seconds after its last read that a reader still counts when the budget is shared."""

TRAIL_SHARE = 2
"""The range of a trail of small files may grow by one part in so many of the budget."""

TRAIL = b"small files"
"""Their share of the lane, beside the inodes of long files."""


class Reader:
    """One open file. Only :class:`Prefetcher` changes it."""

    __slots__ = ("_late", "asked", "inode", "next", "pattern", "read_at")

    def __init__(self, inode: InodeId, pattern: ReadAhead) -> None:
        self.inode = inode
        self.pattern = pattern
        self.read_at = float("-inf")
        self.asked: set[ArticleId] = set()
        """What is under way."""
        self.next: deque[BlockLocation] = deque()
        """What is asked for as soon as that has come."""
        self._late: Sequence[BlockNumber] = ()

    def __repr__(self) -> str:
        return f"<Reader of {self.inode} {self.pattern!r}>"

    def put_off(self, blocks: Sequence[BlockNumber]) -> None:
        """These are wanted once the read that is under way has its data."""
        self._late = blocks

    def take_put_off(self) -> Sequence[BlockNumber]:
        """What was put off, once."""
        blocks, self._late = self._late, ()
        return blocks


class Prefetcher:
    """See the module. ``budget`` in bytes."""

    def __init__(self, index: Index, fetcher: Fetcher, *, block_size: int, budget: int) -> None:
        self._index = index
        self._fetcher = fetcher
        self._block_size = block_size
        self._budget = max(1, budget // block_size)
        self._ahead: set[Reader] = set()
        """Readers with a window."""
        self._owners: dict[ArticleId, Reader] = {}
        """Who asked for what is under way."""
        self._neighbours = Neighbours()
        fetcher.tell_when_done(self._done)

    def __repr__(self) -> str:
        return f"<Prefetcher {len(self._ahead)} readers ahead, {self._budget} blocks in all>"

    def new_reader(self, inode: InodeId) -> Reader:
        """The read-ahead state of a file just opened."""
        return Reader(inode, ReadAhead(self._block_size, self._budget))

    # --- long files ------------------------------------------------------------------------------

    def reading(self, reader: Reader, offset: int, size: int, length: int) -> None:
        """Somebody is about to read ``size`` bytes at ``offset`` of a file of ``length`` bytes."""
        if length <= self._block_size:
            return
        pattern = reader.pattern
        place = (offset + size - 1) // self._block_size
        if pattern.last == place:
            return
        now = trio.current_time()
        reader.read_at = now
        before = pattern.window
        pattern.most = self._share(reader, now)
        wanted = pattern.on_read(offset, size, now, latency=self._fetcher.latency)
        if before and not pattern.window:
            self.stop(reader)
        if wanted:
            self._ahead.add(reader)
            if before:
                self._start(reader, wanted, length)
            else:
                reader.put_off(wanted)

    def has_read(self, reader: Reader, length: int) -> None:
        """The data of the last read is there."""
        wanted = reader.take_put_off()
        if wanted:
            self._start(reader, wanted, length)

    def stop(self, reader: Reader) -> None:
        """The reader goes elsewhere, or is done: what has not left for a server is given up."""
        self._ahead.discard(reader)
        reader.next.clear()
        reader.take_put_off()
        for article in list(reader.asked):
            self._fetcher.cancel_prefetch(article)

    def _share(self, reader: Reader, now: float) -> int:
        others = [
            other for other in self._ahead if other is not reader and now - other.read_at < ACTIVE
        ]
        return max(LEAST, self._budget // (1 + len(others)))

    def _start(self, reader: Reader, wanted: Sequence[BlockNumber], length: int) -> None:
        last = (length - 1) // self._block_size
        low, high = max(0, min(wanted)), min(max(wanted), last)
        reader.next.extend(self._located(reader.inode, wanted, low, high))
        self._pump(reader)

    def _located(
        self, inode: InodeId, wanted: Sequence[BlockNumber], low: int, high: int
    ) -> Iterable[BlockLocation]:
        """The wanted blocks within the file that are stored, nearest first."""
        locate = self._index.blocks.locate
        if abs(wanted[-1] - wanted[0]) >= len(wanted):  # a stride
            inside = [number for number in wanted if low <= number <= high]
            return [block for number in inside for block in locate(inode, number, 1)]
        if high < low:
            return ()
        found = locate(inode, BlockNumber(low), high - low + 1)
        return found if wanted[0] <= wanted[-1] else reversed(found)

    def _pump(self, reader: Reader) -> None:
        """Have as much under way as is useful."""
        speed = reader.pattern.speed
        in_flight = self._fetcher.in_flight
        at_once = in_flight.enough(speed, trio.current_time()) if speed else self._budget
        place, step = reader.pattern.last or 0, reader.pattern.step
        while reader.next and len(reader.asked) < at_once:
            block = reader.next.popleft()
            if (block.number - place) * step <= 0:
                continue  # the reader is there already
            if self._fetcher.prefetch(
                block.article, block.attempt, rewritten=block.message_id, share=reader.inode
            ):
                reader.asked.add(block.article)
                self._owners[block.article] = reader

    def _done(self, article: ArticleId) -> None:
        reader = self._owners.pop(article, None)
        if reader is not None:
            reader.asked.discard(article)
            if reader.next:
                self._pump(reader)

    # --- small files -----------------------------------------------------------------------------

    def small_file(self, article: ArticleId) -> None:
        """A file of one block is read; it is in ``article``."""
        articles = self._index.articles
        for wanted in self._neighbours.on_read(article, max(LEAST, self._budget // TRAIL_SHARE)):
            rows = articles.list(ArticleId(wanted.first - 1), wanted.last - wanted.first + 1)
            self._fetch_shared([row for row in rows if row.id <= wanted.last])

    def _fetch_shared(self, rows: Sequence[Article]) -> None:
        """Fetch those of the articles that are not a whole block of one long file."""
        articles = self._index.articles
        for row in rows:
            long = row.blocks == 1 and row.bytes >= self._block_size
            if not long and not self._fetcher.has(row.id):
                rewritten = articles.message_id(row.id)
                self._fetcher.prefetch(row.id, row.attempt, rewritten=rewritten, share=TRAIL)
