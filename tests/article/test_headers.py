"""Headers are valid and say nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

import pytest

from tests.article.examples import DATE, KEYS
from usenetfs.article.headers import PosterTokens, build_headers, poster_tokens
from usenetfs.article.message_ids import message_id
from usenetfs.types import MessageId, article_id

ID = message_id(KEYS.message_id_key, article_id(1, 1), 0)
TOKENS = PosterTokens("someone <some@one.net>", '"thing" yEnc (1/1)', "thing")


def test_lines_and_their_order() -> None:
    headers = build_headers(
        message_id=ID, groups=["alt.test", "misc.test"], date=DATE, tokens=TOKENS
    )
    assert headers.decode("ascii").split("\r\n") == [
        f"Message-ID: {ID}",
        'Subject: "thing" yEnc (1/1)',
        "From: someone <some@one.net>",
        "Newsgroups: alt.test,misc.test",
        "Date: Fri, 02 Jan 2026 03:04:05 GMT",
        "",
        "",
    ]


def test_the_time_zone_of_the_poster_is_not_told() -> None:
    zones = [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-11))]
    headers = {
        build_headers(message_id=ID, groups=["a.b"], date=DATE.astimezone(zone), tokens=TOKENS)
        for zone in zones
    }
    assert len(headers) == 1
    line = re.search(rb"Date: ([^\r]*)", headers.pop())
    assert line is not None
    assert parsedate_to_datetime(line[1].decode()) == DATE.replace(microsecond=0)


def test_tokens_are_repeatable_plausible_and_differ() -> None:
    ids = [message_id(KEYS.message_id_key, article_id(1, number), 0) for number in range(200)]
    tokens = [poster_tokens(KEYS.header_key, made) for made in ids]
    assert tokens == [poster_tokens(KEYS.header_key, made) for made in ids]
    for made in tokens:
        assert re.fullmatch(r"[A-Za-z]{5,12} <[a-z0-9]{5,12}@[a-z]{5,12}\.[a-z]{2,4}>", made.sender)
        assert re.fullmatch(r'(\[1/1\] - )?"[A-Za-z0-9]{12,32}" yEnc \(1/1\)', made.subject)
        assert f'"{made.yenc_name}"' in made.subject
    assert len({made.sender for made in tokens}) == 200
    assert len({made.yenc_name for made in tokens}) == 200
    assert len({len(made.yenc_name) for made in tokens}) > 12
    other = poster_tokens(KEYS.chain_key, ids[0])
    assert other.sender != tokens[0].sender
    assert other.yenc_name != tokens[0].yenc_name


@pytest.mark.parametrize(
    "group", ["", "alt.test\r\nX: y", "alt..test", ".alt", "alt test", "é.test"]
)
def test_groups_that_are_none_are_refused(group: str) -> None:
    with pytest.raises(ValueError, match="newsgroup"):
        build_headers(message_id=ID, groups=["alt.test", group], date=DATE, tokens=TOKENS)


def test_no_group_is_refused() -> None:
    with pytest.raises(ValueError, match="newsgroup"):
        build_headers(message_id=ID, groups=[], date=DATE, tokens=TOKENS)


@pytest.mark.parametrize(
    "wrong", ["", "a@b", "<a>", "<a@b>\r\nX: y", "<a b@c>", f"<{'a' * 250}@b>"]
)
def test_ids_that_are_none_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="Message-ID"):
        build_headers(message_id=MessageId(wrong), groups=["a.b"], date=DATE, tokens=TOKENS)


def test_a_date_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        build_headers(
            message_id=ID,
            groups=["a.b"],
            date=datetime(2026, 1, 1),  # noqa: DTZ001 - what is to be refused
            tokens=TOKENS,
        )
