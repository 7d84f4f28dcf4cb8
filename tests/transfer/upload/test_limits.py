"""Limits: what may leave when, and that changes hold at once."""

from __future__ import annotations

import datetime
import math

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from usenetfs.article.wire import OutgoingArticle
from usenetfs.net.providers import FetchedBody, PostResult
from usenetfs.transfer.upload.limits import QuietHours, TokenBucket, UploadLimits
from usenetfs.transfer.upload.rate_limit import LimitedPosts
from usenetfs.types import ArticleId, Lane, MessageId

NOON = datetime.time(12, 0)


@given(
    rate=st.integers(1, 10**7),
    steps=st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 100)), min_size=1, max_size=30),
)
def test_never_more_than_the_rate_allows(rate: int, steps: list[tuple[int, float]]) -> None:
    """Whoever waits as told stays, but for a second's worth and the last piece, below the rate."""
    bucket, now, left = TokenBucket(rate, 0.0), 0.0, 0
    for size, idle in steps:
        now += idle
        now += bucket.ready_in(now)
        assert left <= rate * (now + 1) * 1.000001
        bucket.take(size, now)
        left += size


@given(sizes=st.lists(st.integers(1, 10**6), min_size=2, max_size=30), rate=st.integers(1, 10**6))
def test_the_rate_is_used_up(sizes: list[int], rate: int) -> None:
    bucket, now = TokenBucket(rate, 0.0), 0.0
    for size in sizes:
        now += bucket.ready_in(now)
        bucket.take(size, now)
    assert now <= sum(sizes[:-1]) / rate * 1.000001


def test_no_limit_and_no_leave() -> None:
    bucket = TokenBucket(None, 0.0)
    bucket.take(10**12, 0.0)
    assert bucket.ready_in(0.0) == 0
    bucket.set_rate(0, 1.0)
    assert bucket.ready_in(1.0) == math.inf
    bucket.set_rate(None, 2.0)
    assert bucket.ready_in(2.0) == 0


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("08:00-18:00", (480, 1079), (479, 1080, 0)),
        ("22:30 - 6:00", (1350, 1439, 0, 359), (360, 1349)),
        ("00:00-24:00", (0, 1439), ()),
    ],
)
def test_quiet_hours(text: str, inside: tuple[int, ...], outside: tuple[int, ...]) -> None:
    hours = QuietHours.parse(text)
    assert all(minute in hours for minute in inside)
    assert not any(minute in hours for minute in outside)
    assert QuietHours.parse(str(hours)) == hours


@pytest.mark.parametrize("text", ["", "8-18", "25:00-26:00", "08:60-09:00", "08:00-08:00", "x"])
def test_no_hours(text: str) -> None:
    with pytest.raises(ValueError, match="08:00"):
        QuietHours.parse(text)


def test_the_lower_rate_holds_in_quiet_hours() -> None:
    hours = QuietHours.parse("11:00-13:00")
    assert UploadLimits(None, hours, 0).rate_at(NOON) == 0
    assert UploadLimits(100, hours, 500).rate_at(NOON) == 100
    assert UploadLimits(None, hours, 500).rate_at(datetime.time(13, 0)) is None


class Target:
    """Takes whatever is posted."""

    def __init__(self) -> None:
        self.posted = 0

    async def post(self, article: OutgoingArticle, *, lane: Lane = Lane.UPLOAD) -> PostResult:
        await trio.lowlevel.checkpoint()
        self.posted += 1
        return PostResult("one", article.message_id)

    async def fetch(self, message_id: MessageId, *, lane: Lane, fresh: bool = False) -> FetchedBody:
        await trio.lowlevel.checkpoint()
        return FetchedBody(bytearray(), "one", message_id, 0)


def _article(number: int, size: int = 1000) -> OutgoingArticle:
    return OutgoingArticle(ArticleId(number), 0, MessageId(f"<{number}@x>"), bytes(size))


async def _post(posts: LimitedPosts, numbers: range) -> None:
    async with trio.open_nursery() as nursery:
        for number in numbers:
            nursery.start_soon(posts.post, _article(number))


async def test_posts_keep_to_the_rate(autojump_clock: object) -> None:
    target = Target()
    posts = LimitedPosts(target, UploadLimits(rate=500), time_of_day=lambda: NOON)
    began = trio.current_time()
    await _post(posts, range(11))
    assert trio.current_time() - began == pytest.approx(20)
    assert target.posted == 11


async def test_a_change_holds_for_what_waits(autojump_clock: object) -> None:
    target = Target()
    posts = LimitedPosts(target, UploadLimits(rate=0), time_of_day=lambda: NOON)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_post, posts, range(3))
        await trio.sleep(80_000)
        assert target.posted == 0
        posts.set_limits(UploadLimits())
        with trio.fail_after(1):
            while target.posted < 3:  # noqa: ASYNC110 - no event to wait for
                await trio.sleep(0.01)


async def test_quiet_hours_end(autojump_clock: object) -> None:
    target = Target()

    def time_of_day() -> datetime.time:
        minutes = int(trio.current_time() // 60)
        return datetime.time(10 + minutes // 60, minutes % 60)

    hours = QuietHours.parse("10:00-11:30")
    posts = LimitedPosts(target, UploadLimits(None, hours, 0), time_of_day=time_of_day)
    offset = trio.current_time()
    with trio.fail_after(7200):
        await posts.post(_article(1))
    assert 5400 - offset <= trio.current_time() - offset <= 5460
