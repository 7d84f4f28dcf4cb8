"""What servers' words mean: texts as providers send them, and texts that only look like them."""

from __future__ import annotations

import pytest

from usenetfs.errors import (
    AuthenticationError,
    DuplicateArticleError,
    PostInDoubtError,
    PostingNotAllowedError,
    PostRejectedError,
    QuotaError,
    RemoteProtocolError,
    ServerBusyError,
    TooManyConnectionsError,
    UsenetfsError,
)
from usenetfs.net.replies import quote, refused_post, refused_session


def told(line: str) -> type[UsenetfsError]:
    return type(refused_session(int(line[:3]), line[4:], "news"))


@pytest.mark.parametrize(
    "line",
    [
        "502 Too many connections",
        "502 too many connections for your user",
        "400 Too many connections from your host",
        "481 Too many connections",
        "482 too many connections, closing one may help",
        "502 You have reached the maximum number of connections allowed for your account",
        "502 Maximum connections reached",
        "481 max connections exceeded",
        "502 max connect limit reached",
        "482 Connection limit reached for user",
        "502 Authentication Failed - Too many connections",
        "481 You have exceeded your connection limit",
        "502 connection limit exceeded",
        "400 Connection limit (20) exceeded, try again later",
        "502 user limit of 20 connections reached",
        "452 simultaneous connections exceeded",
        "502 concurrent connection limit",
        "502 No more connections allowed",
        "481 you already have 8 connections open: already connected",
        "502 Too many sessions",
        "481 number of threads exceeded",
        "502 maximum number of logins",
        "502 8 connections per user",
    ],
)
def test_too_many_connections(line: str) -> None:
    assert told(line) is TooManyConnectionsError


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("502 Byte limit exceeded for this account", QuotaError),
        ("502 You have exceeded your download limit", QuotaError),
        ("481 Quota exceeded", QuotaError),
        ("502 Block account is empty", QuotaError),
        ("481 your account has expired", QuotaError),
        ("482 out of credit", QuotaError),
        ("502 bandwidth limit reached", QuotaError),
        ("502 max simultaneous ip addresses per customer reached", ServerBusyError),
        ("481 account is in use from multiple ip addresses", ServerBusyError),
        ("481 Authentication failed", AuthenticationError),
        ("502 Authentication Failed", AuthenticationError),
        ("480 Authentication required", AuthenticationError),
        ("483 Encryption or stronger authentication required", AuthenticationError),
        ("400 Service temporarily unavailable", ServerBusyError),
        ("400 Load at 20.51, too high", ServerBusyError),
        ("403 internal fault", ServerBusyError),
        ("503 too many errors", ServerBusyError),
        ("299 what is this", RemoteProtocolError),
    ],
)
def test_other_refusals_of_a_session(line: str, kind: type[UsenetfsError]) -> None:
    assert told(line) is kind


@pytest.mark.parametrize(
    "text",
    [
        "435 Duplicate",
        "435",
        "Duplicate",
        "Posting Failed: Duplicate article",
        "Duplicate Message-ID",
        "posting failed (duplicate message-id <a@b>)",
        "Article already exists",
        "article <a@b> was already posted",
        "Message-ID already exists here",
        "We already have this article",
    ],
)
def test_a_duplicate_article(text: str) -> None:
    assert type(refused_post(441, text, "news")) is DuplicateArticleError


@pytest.mark.parametrize(
    "text",
    [
        "Duplicate From header field",
        "Duplicate header field: Subject",
        'Duplicate "Message-ID" header field',
        "duplicate Message-ID header",
        "Duplicate newsgroups in the Newsgroups header",
        "437 Too old",
        "437 article 435 lines long",
        "Posting failed",
        "",
        "You have already been warned",
    ],
)
def test_a_rejected_article_that_is_no_duplicate(text: str) -> None:
    assert type(refused_post(441, text, "news")) is PostRejectedError


def test_other_refusals_of_a_post() -> None:
    assert type(refused_post(440, "no posting", "news")) is PostingNotAllowedError
    assert type(refused_post(435, "whatever", "news")) is DuplicateArticleError
    assert type(refused_post(436, "later", "news")) is PostRejectedError
    assert type(refused_post(502, "too many connections", "news")) is TooManyConnectionsError
    assert not isinstance(refused_post(400, "closing", "news"), PostInDoubtError)


def test_a_servers_text_is_cut_and_printable() -> None:
    assert quote(502, "a\x1b[2Jb" + "x" * 1000) == "502 a?[2Jb" + "x" * 194
