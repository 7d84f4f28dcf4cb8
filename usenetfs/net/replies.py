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

_MANY: Final = r"(?:connections?|sessions?|threads?|logins?|clients|users logged)"
_TOO_MANY: Final = re.compile(
    rf"too many (?!articles|errors|group|command|request|ip|bad)"
    rf"|{_MANY} limit|{_MANY} per (user|acc|cust)"
    rf"|(limit|max\w*|number|exceed\w*) .{{0,50}}{_MANY}|no (more|further|additional) {_MANY}"
    rf"|{_MANY} .{{0,30}}(exceed|reach|in use|allowed|maximum)|simultaneous(?! ip)|concurrent"
    rf"|already .{{0,20}}(connect|logged)|max[-_ ]?connect",
    re.IGNORECASE,
)
_QUOTA: Final = re.compile(
    r"quota|(transfer|traffic|download|byte|volume|gigabyte|\bgb\b|bandwidth) .{0,20}(limit|exceed)"
    r"|exceed\w* .{0,30}(transfer|traffic|download|bytes?|volume|bandwidth)|used up"
    r"|(out of|no( more)?|insufficient) (credit|bytes|data|traffic)|block .{0,30}(empty|exhausted)"
    r"|(account|subscription|block) .{0,30}expired|payment|depleted",
    re.IGNORECASE,
)
_DUPLICATE: Final = re.compile(
    r"^435\b"
    r"|\bduplicate(?=\W*$|\W+(message|article|msg|id\b|post|of\b))"
    r"|(article|message|post|id) .{0,60}already"
    r"|already (exists|have|posted|got|received|stored|here)",
    re.IGNORECASE,
)
_HEADERS: Final = re.compile(r"\bheaders?\b|\bfields?\b", re.IGNORECASE)
"""In a refusal that speaks of duplicates: it is about lines of the article, not about its id."""
_SECOND_ADDRESS: Final = re.compile(
    r"(simultaneous|multiple|too many|different) ip|ip address(es)? .{0,40}(reached|exceed|in use)",
    re.IGNORECASE,
)
TEXT_LIMIT: Final = 200
"""Characters of a server's text that go into a message."""


def quote(code: int, text: str) -> str:
    """A server's reply for a message: one line, bounded, printable."""
    clean = "".join(c if c.isprintable() else "?" for c in text[:TEXT_LIMIT])
    return f"{code} {clean}".strip()


def not_let_in(message: str, server: str) -> AuthenticationError:
    """The error for a login that failed, with what to do about it."""
    return AuthenticationError(
        message,
        hint=f"check the user name, and store the password again: usenetfs server add {server}",
        server=server,
    )


def refused_session(code: int, text: str, server: str) -> UsenetfsError:
    """Any reply that ends the attempt to open or keep a session: greeting, login, 400, 480, 502."""
    said = quote(code, text)
    if _SECOND_ADDRESS.search(text):
        return ServerBusyError(
            f"{server} serves this account at another address: {said}",
            hint="another machine uses the account, and the provider allows one at a time",
            server=server,
        )
    if _TOO_MANY.search(text):
        return TooManyConnectionsError(f"{server} has enough connections: {said}", server=server)
    if _QUOTA.search(text):
        return QuotaError(f"{server}: the account is used up: {said}", server=server)
    if code in {480, 481, 482, 483, 502}:
        return not_let_in(f"{server} does not let us in: {said}", server)
    if code in {400, 403, 503}:
        return ServerBusyError(f"{server} cannot now: {said}", server=server)
    return RemoteProtocolError(f"{server} answered unexpectedly: {said}", server=server)


def refused_article(code: int, text: str, server: str) -> UsenetfsError:
    """A reply to ARTICLE, BODY, HEAD or STAT that is not the article."""
    if code in MISSING_CODES:
        return ArticleMissingError(f"{server}: {quote(code, text)}", server=server)
    return refused_session(code, text, server)


def is_about(text: str, message_id: str) -> bool:
    """Whether ``text``, after 222 or 223, is about this article as far as it says (RFC 3977
    §6.2.3.1 has it name the article; not every server does)."""
    named = [word for word in text.split() if word.startswith("<") and word.endswith(">")]
    return not named or message_id.lower() in {word.lower() for word in named}


def refused_post(code: int, text: str, server: str) -> UsenetfsError:
    """A reply to POST, or to the article after it, that is neither 340 nor 240."""
    said = quote(code, text)
    if code == 440:
        return PostingNotAllowedError(f"{server}: {said}", server=server)
    duplicate = _DUPLICATE.search(text) and not _HEADERS.search(text)
    if code == 435 or (code == 441 and duplicate):
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
