"""Article headers that say nothing.

Same fields in the same order as common posters (Message-ID, Subject, From, Newsgroups, Date), and
nothing else: no user agent, organisation, path or host. The tokens are per article, so no From, no
Subject and no file name links two articles. ``Date`` is in UTC and whole seconds: no time zone.

Invariant: the same key, Message-ID, groups and date give the same octets, so an article that must
be sent again under its old id is the same article.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

from usenetfs.article.tokens import (
    HEX,
    LOWER,
    LOWER_DIGITS,
    MIXED,
    MIXED_DIGITS,
    TokenStream,
)
from usenetfs.types import MessageId

_TOP_LEVEL: Final = ("com", "net", "org", "info", "co", "me")

_GROUP: Final = re.compile(r"[A-Za-z0-9+_\-]+(?:\.[A-Za-z0-9+_\-]+)*")
"""RFC 5536 §3.1.4: components of letters, digits, ``+``, ``-`` and ``_``."""

_ID: Final = re.compile(r"<[!-;=?-~]+@[!-;=?-~]+>")


@dataclass(frozen=True, slots=True)
class PosterTokens:
    """The words an article is dressed in."""

    sender: str
    """``token <token@token.tld>``"""
    subject: str
    yenc_name: str


def poster_tokens(header_key: bytes, message_id: MessageId) -> PosterTokens:
    """The words for the article ``message_id``: computed, so they need no storing."""
    encoded_id = message_id.encode("ascii")
    names = TokenStream(header_key, b"name" + encoded_id)
    name = _file_name(names)
    counter = "" if names.below(3) else "[1/1] - "
    return PosterTokens(
        sender=_sender(TokenStream(header_key, b"from" + encoded_id)),
        subject=f'{counter}"{name}" yEnc (1/1)',
        yenc_name=name,
    )


def build_headers(
    *, message_id: MessageId, groups: Sequence[str], date: datetime, tokens: PosterTokens
) -> bytes:
    """The header lines with the empty line that ends them.

    :param groups: one newsgroup or more; ValueError for what RFC 5536 does not allow.
    :param date: aware; sent in UTC without fractions of a second.
    """
    if not groups:
        raise ValueError("an article needs a newsgroup")
    for group in groups:
        if not _GROUP.fullmatch(group):
            raise ValueError(f"not a newsgroup: {group!r}")
    if not _ID.fullmatch(message_id) or len(message_id) > 250:
        raise ValueError("not a Message-ID")
    if date.tzinfo is None:
        raise ValueError("the date has no time zone")
    stamp = format_datetime(date.astimezone(UTC).replace(microsecond=0), usegmt=True)
    return (
        f"Message-ID: {message_id}\r\n"
        f"Subject: {tokens.subject}\r\n"
        f"From: {tokens.sender}\r\n"
        f"Newsgroups: {','.join(groups)}\r\n"
        f"Date: {stamp}\r\n"
        "\r\n"
    ).encode("ascii")


def _sender(stream: TokenStream) -> str:
    shown = stream.word(stream.choice((LOWER, MIXED)), stream.between(5, 12))
    local = stream.word(stream.choice((LOWER, LOWER_DIGITS)), stream.between(5, 12))
    domain = stream.word(LOWER, stream.between(5, 12))
    return f"{shown} <{local}@{domain}.{stream.choice(_TOP_LEVEL)}>"


def _file_name(stream: TokenStream) -> str:
    match stream.below(3):
        case 0:
            return stream.word(HEX, 32)
        case 1:
            return stream.word(LOWER_DIGITS, stream.between(12, 28))
        case _:
            return stream.word(MIXED_DIGITS, stream.between(12, 28))
