"""From a plaintext to an article ready to be sent, and back.

The one place where seal, Message-ID, headers and yEnc meet. Copies: encryption writes its output
once, the salt is put before it (one copy), yEnc encodes (one pass), headers and lines are joined
(one copy); all of it together is measured below a millisecond for 700 KiB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from usenetfs.article.container import Kind
from usenetfs.article.headers import build_headers, poster_tokens
from usenetfs.article.keys import KeySet
from usenetfs.article.message_ids import message_id as numbered_message_id
from usenetfs.article.seal import seal
from usenetfs.article.yenc import body_parts
from usenetfs.types import ArticleId, MessageId


@dataclass(frozen=True, slots=True)
class OutgoingArticle:
    """An article as it goes over the wire."""

    article: ArticleId
    attempt: int
    message_id: MessageId
    wire: bytes = field(repr=False)
    """Headers and body, CRLF line ends, without the terminating ``.`` line; needs no stuffing."""


def build_article(
    keys: KeySet,
    filesystem_id: bytes,
    article: ArticleId,
    attempt: int,
    salt: bytes,
    kind: Kind,
    plaintext: bytes | bytearray | memoryview,
    groups: Sequence[str],
    date: datetime,
    *,
    message_id: MessageId | None = None,
) -> tuple[OutgoingArticle, bytes]:
    """Seal ``plaintext`` and dress it; returns the article and its sealed body.

    :param salt: 32 bytes that were never used with another plaintext (``seal.new_salt``).
    :param groups: newsgroups, at least one.
    :param date: aware; goes out in UTC and whole seconds.
    :param message_id: where it is not that of the number and attempt (checkpoints).
    """
    sealed = seal(keys.data_key, filesystem_id, article, kind, salt, plaintext)
    if message_id is None:
        message_id = numbered_message_id(keys.message_id_key, article, attempt)
    outgoing = dress_article(
        keys.header_key,
        sealed,
        article=article,
        attempt=attempt,
        message_id=message_id,
        groups=groups,
        date=date,
    )
    return outgoing, sealed


def dress_article(
    header_key: bytes,
    sealed: bytes,
    *,
    article: ArticleId,
    attempt: int,
    message_id: MessageId,
    groups: Sequence[str],
    date: datetime,
) -> OutgoingArticle:
    """Headers and yEnc around a body that is sealed already."""
    tokens = poster_tokens(header_key, message_id)
    headers = build_headers(message_id=message_id, groups=groups, date=date, tokens=tokens)
    wire = b"".join((headers, *body_parts(sealed, name=tokens.yenc_name)))
    return OutgoingArticle(article, attempt, message_id, wire)
