"""The part of the check that looks at content: what is staged, in flight, and in the block map.

How many blocks rest on each segment and article is counted into temporary tables, which SQLite
keeps on disk: memory stays flat however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator

from usenetfs.index.database import Database, Row
from usenetfs.index.shards import Shards
from usenetfs.index.survey import Kind, Repair, Survey


class ContentCheck:
    def __init__(
        self, survey: Survey, database: Database, shards: Shards, *, block_size: int
    ) -> None:
        self._survey = survey
        self._database = database
        self._shards = shards
        self._block_size = block_size

    def steps(self) -> Iterator[None]:
        yield from self._check_staging()
        yield from self._check_in_flight()
        yield from self._check_blocks()
        yield from self._check_segments()
        yield from self._check_articles()
        yield from self._check_shards()

    # --- staging and what is in flight

    def _check_staging(self) -> Iterator[None]:
        def look(row: Row) -> None:
            inode, blocks = row
            self._survey.found(
                Kind.STAGED_NOWHERE,
                f"{blocks} staged blocks belong to inode {inode}, which does not exist",
                self._survey.write("DELETE FROM local_staging WHERE inode = ?", inode),
                inode,
            )

        yield from self._survey.scan(
            "local_staging",
            "inode",
            "SELECT w.inode, count(*) FROM local_staging w WHERE w.inode > ? AND w.inode <= ?"
            " AND NOT EXISTS (SELECT 1 FROM inodes i WHERE i.id = w.inode) GROUP BY w.inode",
            look,
        )

        def look_waiting(row: Row) -> None:
            inode, block, article, slot = row
            self._survey.found(
                Kind.STAGED_WAITING,
                f"block {block} of inode {inode} waits for slot {slot} of article {article:#x},"
                " which is not in flight",
                self._survey.write(
                    "UPDATE local_staging SET state = 0, article = 0, slot = 0,"
                    " uploaded_generation = 0 WHERE inode = ? AND block = ?",
                    inode,
                    block,
                ),
                inode,
            )

        yield from self._survey.scan(
            "local_staging",
            "inode",
            "SELECT w.inode, w.block, w.article, w.slot FROM local_staging w"
            " WHERE w.inode > ? AND w.inode <= ? AND ((w.state = 0) <> (w.article = 0)"
            " OR w.state <> 0 AND NOT EXISTS (SELECT 1 FROM local_segment g"
            " JOIN local_article a ON a.id = g.article"
            " WHERE g.article = w.article AND g.slot = w.slot))",
            look_waiting,
        )

    def _check_in_flight(self) -> Iterator[None]:
        def look(row: Row) -> None:
            (article,) = row
            self._survey.found(
                Kind.IN_FLIGHT_LEFTOVER,
                f"segments of article {article:#x} are in flight without it",
                self._survey.write("DELETE FROM local_segment WHERE article = ?", article),
            )

        # An article for which nobody waits is no fault: its files were deleted meanwhile.
        yield from self._survey.scan(
            "local_segment",
            "article",
            "SELECT DISTINCT g.article FROM local_segment g WHERE g.article > ? AND g.article <= ?"
            " AND NOT EXISTS (SELECT 1 FROM local_article a WHERE a.id = g.article)",
            look,
        )

    # --- the block map

    def _check_blocks(self) -> Iterator[None]:
        self._drop_temporary()
        self._database.rows("CREATE TEMP TABLE check_refs (segment INTEGER PRIMARY KEY, n, bytes)")
        size = self._block_size
        after: tuple[int, int] = (-1, -1)
        while True:
            near = self._shards.near(self._segments_after(after))
            rows = self._database.rows(_BLOCKS.format(*near), (*after, self._survey.batch))
            if not rows:
                return
            after = (rows[-1][0], rows[-1][1])
            suspicious = [
                row
                for row in rows
                if row[4] is None  # no inode
                or row[1] * size + row[3] > row[4]  # beyond its end
                or row[5] is None  # no segment
                or row[6] is None  # no article
                or not 0 < row[3] <= row[5]  # more than the segment holds
            ]
            self._survey.run(suspicious, self._look_at_block)
            self._database.rows(_COUNT_REFS, (rows[0][0], rows[0][1], *after))
            yield

    def _segments_after(self, after: tuple[int, int]) -> set[int]:
        """Those of the next batch of blocks, where they have to be gathered."""
        if not self._shards.spread:
            return set()
        rows = self._database.rows(
            "SELECT segment FROM blocks WHERE (inode, number) > (?, ?)"
            " ORDER BY inode, number LIMIT ?",
            (*after, self._survey.batch),
        )
        return {segment for (segment,) in rows}

    def _look_at_block(self, row: Row) -> None:
        inode, number, _segment, length, size, raw_length, article, staged = row
        where = f"block {number} of inode {inode}"
        remove = self._survey.write(
            "DELETE FROM blocks WHERE inode = ? AND number = ?", inode, number
        )
        if size is None:
            self._survey.found(
                Kind.BLOCK_WITHOUT_INODE, f"{where}: the inode does not exist", remove, inode
            )
            return
        if raw_length is None or article is None or not 0 < length <= raw_length:
            what = "segment" if raw_length is None else "article" if article is None else "length"
            self._survey.found(
                Kind.BLOCK_WITHOUT_DATA, f"{where}: its {what} does not exist", None, inode
            )
            return
        rest = size - number * self._block_size
        if staged:
            return  # its inode's size may not be written yet, and its newest content is staged
        shorten = self._survey.write(
            "UPDATE blocks SET length = ? WHERE inode = ? AND number = ?", rest, inode, number
        )
        self._survey.found(
            Kind.BLOCK_BEYOND_SIZE,
            f"{where} ends {length - rest} bytes behind the end of the file",
            shorten if rest > 0 else remove,
            inode,
        )

    def _check_segments(self) -> Iterator[None]:
        self._database.rows("CREATE TEMP TABLE check_articles (id INTEGER PRIMARY KEY, n, bytes)")

        def look(row: Row) -> None:
            segment, refs, found = row
            fix = (
                self._write("segments", segment, "UPDATE segments SET refs = ? WHERE id = ?", found)
                if found
                else self._write("segments", segment, "DELETE FROM segments WHERE id = ?")
            )
            self._survey.found(
                Kind.SEGMENT_REFS, f"segment {segment} counts {refs} blocks, there are {found}", fix
            )

        yield from self._survey.scan_windows(
            self._shards.windows("segments", self._survey.batch),
            "SELECT s.id, s.refs, coalesce(c.n, 0) FROM {} s"
            " LEFT JOIN temp.check_refs c ON c.segment = s.id"
            " WHERE s.id > ?1 AND s.id <= ?2 AND s.refs IS NOT coalesce(c.n, 0)",
            look,
        )
        for source, after, last in self._shards.windows("segments", self._survey.batch):
            self._database.rows(_COUNT_ARTICLES.format(source), (after, last))
            yield

    def _check_articles(self) -> Iterator[None]:
        def look(row: Row) -> None:
            article, blocks, size, found, found_size = row
            fix = (
                self._write(
                    "articles",
                    article,
                    "UPDATE articles SET blocks = ?, bytes = ? WHERE id = ?",
                    found,
                    found_size,
                )
                if found
                else self._write("articles", article, "DELETE FROM articles WHERE id = ?")
            )
            self._survey.found(
                Kind.ARTICLE_BLOCKS,
                f"article {article:#x} counts {blocks} blocks of {size} bytes,"
                f" there are {found} of {found_size}",
                fix,
            )

        yield from self._survey.scan_windows(
            self._shards.windows("articles", self._survey.batch),
            "SELECT a.id, a.blocks, a.bytes, coalesce(c.n, 0), coalesce(c.bytes, 0) FROM {} a"
            " LEFT JOIN temp.check_articles c ON c.id = a.id WHERE a.id > ?1 AND a.id <= ?2"
            " AND (a.blocks IS NOT coalesce(c.n, 0) OR a.bytes IS NOT coalesce(c.bytes, 0))",
            look,
        )
        self._drop_temporary()

    def _write(self, table: str, key: int, sql: str, *bindings: object) -> Repair:
        """A repair of one row, wherever it is; ``key`` is the last binding."""

        def repair() -> None:
            self._shards.bring(table, (key,))
            self._database.write(sql, (*bindings, key))

        return repair

    # --- files that rows are spread over

    def _check_shards(self) -> Iterator[None]:
        for table, key in self._shards.strays():
            self._survey.found(
                Kind.SHARD, f"a row of {table}, {key:#x}, is in a file it does not belong to"
            )
        yield
        for source, after, last in self._shards.at_rest("segments"):
            rows = self._database.rows(f"SELECT id, hash FROM {source}", (after, last))
            lost = [row for row in rows if self._shards.segment_of_hash(row[1]) != row[0]]
            self._survey.run(lost, self._look_at_hash)
            yield

    def _look_at_hash(self, row: Row) -> None:
        (segment, _) = row
        self._survey.found(
            Kind.SHARD,
            f"segment {segment} is not found by its content",
            lambda: self._shards.bring("segments", (segment,)),
        )

    def _drop_temporary(self) -> None:
        for table in ("check_refs", "check_articles"):
            self._database.rows(f"DROP TABLE IF EXISTS temp.{table}")


_BLOCKS = """
SELECT b.inode, b.number, b.segment, b.length, i.size, s.raw_length, a.id,
       EXISTS (SELECT 1 FROM local_staging w WHERE w.inode = b.inode AND w.block = b.number)
FROM blocks b
LEFT JOIN inodes i ON i.id = b.inode
LEFT JOIN {} s ON s.id = b.segment
LEFT JOIN {} a ON a.id = s.article
WHERE (b.inode, b.number) > (?, ?)
ORDER BY b.inode, b.number LIMIT ?
"""

_COUNT_ARTICLES = """
INSERT INTO temp.check_articles
SELECT s.article, sum(c.n), sum(c.bytes)
FROM {} s CROSS JOIN temp.check_refs c ON c.segment = s.id
WHERE s.id > ?1 AND s.id <= ?2 GROUP BY s.article
ON CONFLICT (id) DO UPDATE SET n = n + excluded.n, bytes = bytes + excluded.bytes
"""

_COUNT_REFS = """
INSERT INTO temp.check_refs
SELECT segment, count(*), sum(length) FROM blocks
WHERE (inode, number) >= (?, ?) AND (inode, number) <= (?, ?) GROUP BY segment
ON CONFLICT (segment) DO UPDATE SET n = n + excluded.n, bytes = bytes + excluded.bytes
"""
