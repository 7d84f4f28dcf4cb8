"""Taking an article: is it one, may it be filed, and what is filed.

Pure. Checks what INN checks of a post and answers in its words: the header section has to be there,
From, Newsgroups and Subject too, and one of the groups must exist. What INN adds is added: Path,
and a Message-ID or a Date where there is none.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

from usenetfs.nntp.grammar import is_message_id

PATH_NAME = "news.invalid"
MAX_AGE = timedelta(days=10)
"""INN's ``artcutoff``: what is dated earlier is refused as too old."""

_ADDRESS = re.compile(rb"[^\s@<>()]+@[^\s@<>().]+(\.[^\s@<>().]+)+")
_MESSAGE_ID_LINE = re.compile(rb"^message-id:[^\r]*", re.IGNORECASE | re.MULTILINE)
_HEADER_LINE = re.compile(rb"([!-9;-~]+):[ \t](.*)", re.DOTALL)


class RefusedPostError(Exception):
    """The article is not filed; ``reason`` follows the 441 or 437."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Filing:
    """What goes into the spool. ``body``: stuffed lines, without the terminator."""

    message_id: str
    groups: tuple[str, ...]
    head: bytes = field(repr=False)
    body: memoryview = field(repr=False)


def examine(wire: bytes, known_groups: Collection[str], now: datetime) -> Filing:
    """The filing of an article as it came over the wire. RefusedPostError if it may not be."""
    end = wire.find(b"\r\n\r\n")
    if end < 0:
        raise RefusedPostError("Article has no body -- just headers")
    headers = _headers(wire[:end])
    for name in (b"from", b"newsgroups", b"subject"):
        if not headers.get(name):
            raise RefusedPostError(f"Missing required {name.decode().title()} header field")
    if b"xref" in headers:
        raise RefusedPostError("Can't set system Xref header field")
    if not _ADDRESS.search(headers[b"from"]):
        raise RefusedPostError("Address in From header field not in Internet syntax")
    if len(wire) == end + 4:
        raise RefusedPostError("Article is empty")
    groups = _groups(headers[b"newsgroups"], known_groups)
    message_id = _message_id(headers.get(b"message-id"))
    _check_date(headers.get(b"date"), now)
    added = b"Path: " + PATH_NAME.encode() + b"!not-for-mail\r\n" if b"path" not in headers else b""
    if b"message-id" not in headers:
        added += b"Message-ID: " + message_id.encode() + b"\r\n"
    if b"date" not in headers:
        added += b"Date: " + format_datetime(now.astimezone(UTC)).encode() + b"\r\n"
    head = added + wire[: end + 4]
    return Filing(message_id, groups, head, memoryview(wire)[end + 4 :])


def renamed(filing: Filing, message_id: str) -> Filing:
    """The same article under another Message-ID."""
    head = _MESSAGE_ID_LINE.sub(b"Message-ID: " + message_id.encode(), filing.head, count=1)
    return Filing(message_id, filing.groups, head, filing.body)


def new_message_id() -> str:
    return f"<{secrets.token_hex(12)}@{PATH_NAME}>"


def _headers(section: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    last = b""
    for line in section.split(b"\r\n"):
        if line[:1] in {b" ", b"\t"} and last:
            found[last] += line
            continue
        match = _HEADER_LINE.fullmatch(line)
        if match is None:
            raise RefusedPostError("Header field without a colon and a space")
        last = match[1].lower()
        if last in found:
            raise RefusedPostError(f"Duplicate {match[1].decode('ascii')} header field")
        found[last] = match[2].strip()
    return found


def _groups(value: bytes, known: Collection[str]) -> tuple[str, ...]:
    wanted = [name.strip().decode("utf-8", "replace") for name in value.split(b",")]
    groups = tuple(name for name in wanted if name in known)
    if not groups:
        shown = "".join(c if " " <= c <= "~" else "?" for c in ",".join(wanted)[:100])
        raise RefusedPostError(f'No valid newsgroups in "{shown}"')
    return groups


def _message_id(value: bytes | None) -> str:
    if value is None:
        return new_message_id()
    text = value.decode("ascii", "replace")
    if not is_message_id(text) or "@" not in text:
        raise RefusedPostError("Can't parse Message-ID header field body")
    return text


def _check_date(value: bytes | None, now: datetime) -> None:
    if value is None:
        return
    try:
        date = parsedate_to_datetime(value.decode("ascii", "replace"))
    except (ValueError, TypeError):
        raise RefusedPostError("Can't parse Date header field body") from None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    if now - date > MAX_AGE:
        raise RefusedPostError("437 Too old: article's date is more than 10 days ago")
    if date - now > timedelta(days=1):
        raise RefusedPostError("Article posted in the future")
