"""Message-IDs that only the key can compute.

An article's Message-ID is a function of a key and the article's place, so the index need not store
it, and nobody without the key can tell that two ids belong together or what comes next. It is
shaped like what other posters produce: a token on each side of the ``@``, lengths and alphabets
vary, nothing is constant.

A second attempt of an article gets another id; the id of a checkpoint is unique to its number,
which is what fences a second writer (a server takes an id once).

The shape is part of the format: changing any choice here changes every id (``docs/format.md``,
golden vectors).
"""

from __future__ import annotations

import struct
from typing import Final

from usenetfs.article.tokens import HEX, LOWER, LOWER_DIGITS, MIXED_DIGITS, TokenStream
from usenetfs.types import ArticleId, MessageId, split_article_id

_ARTICLE: Final = struct.Struct(">BIQI")
_CHAIN: Final = struct.Struct(">BQB")
_KEY_RECORD: Final = struct.Struct(">BIB")

_TAG_ARTICLE: Final = 1
_TAG_CHAIN: Final = 2
_TAG_KEY_RECORD: Final = 3

_TOP_LEVEL: Final = ("com", "net", "org", "info", "biz", "local")


def message_id(message_id_key: bytes, article: ArticleId, attempt: int) -> MessageId:
    """The Message-ID of ``article`` at its ``attempt`` (0, 1, …), with angle brackets."""
    epoch, number = split_article_id(article)
    context = _ARTICLE.pack(_TAG_ARTICLE, epoch, number, attempt)
    return _shaped(TokenStream(message_id_key, context))


def chain_message_id(chain_key: bytes, checkpoint: int, copy: int = 0) -> MessageId:
    """The Message-ID of checkpoint ``checkpoint`` (0, 1, …), ``copy`` 0 being the first."""
    return _shaped(TokenStream(chain_key, _CHAIN.pack(_TAG_CHAIN, checkpoint, copy)))


def key_record_message_id(message_id_key: bytes, generation: int, copy: int = 0) -> MessageId:
    """The Message-ID of the key record's ``generation`` (0, 1, …); the key is the locator's."""
    return _shaped(TokenStream(message_id_key, _KEY_RECORD.pack(_TAG_KEY_RECORD, generation, copy)))


def _shaped(stream: TokenStream) -> MessageId:
    """At least 95 bits on the left side alone: two articles never meet by chance."""
    match stream.below(4):
        case 0:
            local = stream.word(HEX, 32)
        case 1:
            local = stream.word(LOWER_DIGITS, stream.between(19, 28))
        case _:
            local = stream.word(MIXED_DIGITS, stream.between(16, 28))
    domain = stream.word(LOWER_DIGITS, stream.between(5, 12))
    top = stream.choice(_TOP_LEVEL) if stream.below(2) else stream.word(LOWER, 3)
    return MessageId(f"<{local}@{domain}.{top}>")
