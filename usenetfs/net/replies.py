"""What a server's words mean: one table from reply codes and texts to errors.

Providers say the same thing with different codes (a full account is 481, 482, 502 or 400), so
where RFC 3977 leaves room the text decides. Pure. Knows nothing of connections or retries.
"""

from __future__ import annotations

import re
from typing import Final

from usenetfs.errors import (
    ArticleMissingError,
    AuthenticationError,
    DuplicateArticleError,
    PostingNotAllowedError,
    PostRejectedError,
    QuotaError,
    RemoteProtocolError,
    ServerBusyError,
    TooManyConnectionsError,
    UsenetfsError,
)

MISSING_CODES: Final = frozenset({420, 423, 430, 451})
"""430 by the book; 451 is what takedowns get; 420 and 423 are other servers' 430."""

_TOO_MANY: Final = re.compile(
    r"too many|connection limit|limit .{0,30}connections|max\w*\s.{0,30}connections"
    r"|connections? .{0,30}(exceed|reach|in use|allowed)|simultaneous|concurrent"
    r"|exceed\w* .{0,40}connections|already .{0,20}connect",
    re.IGNORECASE,
)
_QUOTA: Final = re.compile(
    r"quota|(transfer|traffic|download|byte) limit|used up|out of credit|no credit"
    r"|block .{0,30}(empty|exhausted|expired)|account .{0,20}expired",
    re.IGNORECASE,
)
_DUPLICATE: Final = re.compile(r"\b435\b|duplicate|already (exists|have|posted)", re.IGNORECASE)
TEXT_LIMIT: Final = 200
"""Characters of a server's text that go into a message."""


def quote(code: int, text: str) -> str:
    """A server's reply for a message: one line, bounded, printable."""
    clean = "".join(c if c.isprintable() else "?" for c in text[:TEXT_LIMIT])
    return f"{code} {clean}".strip()


def refused_session(code: int, text: str, server: str) -> UsenetfsError:
    """Any reply that ends the attempt to open or keep a session: greeting, login, 400, 480, 502."""
    said = quote(code, text)
    if _TOO_MANY.search(text):
        return TooManyConnectionsError(f"{server} has enough connections: {said}", server=server)
    if _QUOTA.search(text):
        return QuotaError(f"{server}: the account is used up: {said}", server=server)
    if code in {480, 481, 482, 483, 502}:
        return AuthenticationError(f"{server} does not let us in: {said}", server=server)
    if code in {400, 403, 503}:
        return ServerBusyError(f"{server} cannot now: {said}", server=server)
    return RemoteProtocolError(f"{server} answered unexpectedly: {said}", server=server)


def refused_article(code: int, text: str, server: str) -> UsenetfsError:
    """A reply to ARTICLE, BODY, HEAD or STAT that is not the article."""
    if code in MISSING_CODES:
        return ArticleMissingError(f"{server}: {quote(code, text)}", server=server)
    return refused_session(code, text, server)


def refused_post(code: int, text: str, server: str) -> UsenetfsError:
    """A reply to POST, or to the article after it, that is neither 340 nor 240."""
    said = quote(code, text)
    if code == 440:
        return PostingNotAllowedError(f"{server}: {said}", server=server)
    if code in {435, 441} and (code == 435 or _DUPLICATE.search(text)):
        return DuplicateArticleError(f"{server} has this Message-ID: {said}", server=server)
    if code in {436, 437, 441}:
        return PostRejectedError(f"{server} rejected the article: {said}", server=server)
    return refused_session(code, text, server)


def ends_session(code: int) -> bool:
    """Whether the server will say nothing more on this connection after this reply.

    400 and 205 by RFC 3977; 502 because providers close after it; 480 and 483 because nothing
    else would be answered either before a new login.
    """
    return code in {205, 400, 480, 481, 483, 502}
