"""A chain on fake servers: a publisher over a real index, and a reader that knows only the key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.checkpoint.published import Published
from tests.index.world import rows_of_table
from tests.transfer.world import FILESYSTEM_ID, KEYS, FakeServers
from usenetfs.article.container import Kind, unpack
from usenetfs.article.message_ids import chain_message_id, message_id
from usenetfs.article.newsgroups import NewsgroupChoice
from usenetfs.article.seal import open_seal
from usenetfs.article.wire import OutgoingArticle
from usenetfs.checkpoint.documents import piece_of, read_document
from usenetfs.checkpoint.publish import Publisher, PublishSettings
from usenetfs.checkpoint.record import DocumentRef, OpenedCheckpoint, open_checkpoint
from usenetfs.checkpoint.sending import Sender
from usenetfs.errors import DuplicateArticleError, SealError, UsenetfsError
from usenetfs.index.index import Index
from usenetfs.index.normal_form import FORMS, normalise
from usenetfs.net.retry import RetryManager, RetryPolicy
from usenetfs.types import ArticleId, MessageId, article_id


def once_only(servers: FakeServers) -> None:
    """From now on these servers take a Message-ID once, as all do."""

    def check(article: OutgoingArticle) -> None:
        if article.message_id in servers.articles:
            raise DuplicateArticleError("441 435 duplicate")

    servers.before_post = check


def publisher_of(
    index: Index,
    servers: FakeServers,
    spool: Path,
    *,
    errors: list[UsenetfsError] | None = None,
    piece_size: int = 8192,
    interval: float = 30.0,
    save: Callable[[], None] = lambda: None,
) -> Publisher:
    """``interval`` in seconds; below a second everything is quick."""
    sender = Sender(
        servers,
        keys=KEYS,
        filesystem_id=FILESYSTEM_ID,
        groups=NewsgroupChoice(["alt.binaries.test"]),
        retries=RetryManager(RetryPolicy(first=0.5, retries=None)),
        first=min(0.5, interval),
        deadline=30.0,
    )
    return Publisher(
        index,
        sender,
        keys=KEYS,
        settings=PublishSettings(interval=interval, copies=2, piece_size=piece_size, spool=spool),
        save=save,
        report=(errors if errors is not None else []).append,
    )


class Reader:
    """Reads a chain as ``docs/format.md`` says, and keeps every state that it rebuilt."""

    def __init__(self, servers: FakeServers) -> None:
        self.servers = servers

    def _open(self, where: MessageId, article: ArticleId, kind: Kind) -> bytes | None:
        body = self.servers.articles.get(where)
        if body is None:
            return None
        return open_seal(KEYS.data_key, FILESYSTEM_ID, article, kind, body)

    def checkpoint(self, number: int) -> OpenedCheckpoint | None:
        """The first copy that can be read."""
        for copy in range(4):
            where = chain_message_id(KEYS.chain_key, number, copy)
            try:
                content = self._open(where, article_id(0, number), Kind.CHECKPOINT)
            except SealError:
                continue
            if content is not None:
                return open_checkpoint(unpack(content), number=number)
        return None

    def copies(self, number: int) -> int:
        ids = (chain_message_id(KEYS.chain_key, number, copy) for copy in range(9))
        return sum(where in self.servers.articles for where in ids)

    def last(self) -> int:
        """Number of the newest checkpoint; −1 if there is none."""
        number = 0
        while self.checkpoint(number) is not None:
            number += 1
        return number - 1

    def _document(self, reference: DocumentRef, inline: bytes | None, kind: Kind) -> bytes:
        pieces = [inline] if inline is not None else list(self._pieces(reference, kind))
        return b"".join(read_document(pieces, size=reference.size, sha256=reference.sha256))

    def _pieces(self, reference: DocumentRef, kind: Kind) -> Iterator[bytes]:
        for number, copies in enumerate(reference.articles):
            opened = None
            for article, attempt in copies:
                opened = self._open(
                    message_id(KEYS.message_id_key, article, attempt), article, kind
                )
                assert opened is not None, "a checkpoint names what is not there"
            assert opened is not None
            yield bytes(piece_of(unpack(opened), kind, number))

    def state(self, number: int) -> Published:
        """The state at a checkpoint, its digest verified."""
        route = []
        at = number
        while True:
            opened = self.checkpoint(at)
            assert opened is not None
            route.append(opened)
            record = opened.record
            if record.snapshot is not None:
                break
            assert record.base is not None
            at = record.base
        published = Published(KEYS.digest_key)
        first = route.pop()
        assert first.record.snapshot is not None
        published.apply(self._document(first.record.snapshot, first.snapshot, Kind.SNAPSHOT))
        assert published.digest() == first.record.digest
        for opened in reversed(route):
            record = opened.record
            assert record.changeset is not None
            published.apply(self._document(record.changeset, opened.changeset, Kind.CHANGESET))
            assert published.digest() == record.digest
        published.check()
        return published


def rows_of(index: Index) -> dict[str, set[tuple[object, ...]]]:
    """The live index in normal form."""
    return {
        table: {normalise(table, row) for row in rows_of_table(index, table)} for table in FORMS
    }
