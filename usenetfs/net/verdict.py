"""What was found out about a server, and what follows from it. Pure: no I/O, no clock.

Owns the shape of a report (``docs/server-test.md`` shows it to users, and programs read it as
JSON), the plan of what is tried within a given traffic, and the recommendation.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from usenetfs.errors import UsageError
from usenetfs.types import DEFAULT_BLOCK_SIZE

PAYLOADS: Final = (64_000, 256_000, DEFAULT_BLOCK_SIZE, 940_000, 1_450_000, 2_000_000, 3_500_000)
"""Octets that articles are tried with, in this order, until one is refused; the wire is some 3 %
more. Larger ones are never posted: the client takes replies of 4 MiB at most."""
DEPTHS: Final = (2, 4, 8, 16, 32)
"""Requests sent at once. The largest that works is enough for any line at 32."""
SMALL: Final = 17_000
"""Octets of a small article on the wire, about."""
AHEAD_ARTICLES: Final = 4
OVERHEAD: Final = 1.04
"""Octets on the wire for one of the payload, headers included."""
GOOD_ENOUGH: Final = 0.93
"""A number of connections that reaches this share of the best speed is recommended."""
PAGE: Final = 4096
SLOW_ROUND_TRIP: Final = 0.02
"""Seconds from which a POST's two round trips, and not the line, decide the upload speed."""
LARGEST_BLOCK: Final = 2_000_000
"""Octets of a block that is recommended at most: other programs and servers have limits too."""
EXPIRES_SOON: Final = 30.0
"""Days."""


class Fate(enum.Enum):
    """What became of a Message-ID."""

    KEPT = "kept"
    REWRITTEN = "rewritten"
    """The reply named another one, and the article is there under that."""
    LOST = "lost"
    """Accepted, and not there under our id: dropped, rewritten without a word, or very slow."""


@dataclass(frozen=True, slots=True)
class Tls:
    """``expires_in``: days from now; negative once it has expired (a pin may allow that)."""

    version: str
    cipher: str
    subject: str
    issuer: str
    expires: str
    """ISO 8601, UTC."""
    expires_in: float
    sha256: str
    """Of the certificate, to be pinned with."""


@dataclass(frozen=True, slots=True)
class Posting:
    """What posting showed. Sizes in octets; ``reason``: why not, in the server's words."""

    allowed: bool
    reason: str | None = None
    message_id: Fate | None = None
    seen_after: float | None = None
    """Seconds from the reply to the article until another connection saw it."""
    largest_article: int = 0
    """On the wire, headers included: the largest that was taken and came back whole."""
    largest_payload: int = 0
    """What it carried."""
    refused_article: int | None = None
    """On the wire: the smallest that was refused; None if none was."""
    refused_reason: str | None = None
    post_ahead: bool | None = None
    """None: not tried."""
    post_ahead_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Speed:
    """With so many connections: octets a second; None where it was not measured."""

    connections: int
    upload: float | None = None
    download: float | None = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to put into the configuration, and why. ``block_size``: for ``init --block-size``."""

    connections: int
    max_pipeline: int
    post_ahead: bool
    posting: bool
    block_size: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Everything about one server. Times in seconds."""

    name: str
    address: str
    login_seconds: float
    round_trip: float
    capabilities: tuple[str, ...]
    tls: Tls | None
    logged_in: bool
    """Whether user name and password were asked for and taken."""
    posting: Posting
    pipelining: int
    """Requests at once that were all answered, in order; 1: it cannot."""
    pipelining_reason: str | None
    connections: int
    """That it let us have at once, at most as many as are configured."""
    speeds: tuple[Speed, ...]
    bytes_up: int
    bytes_down: int
    problems: tuple[str, ...] = ()
    """What went wrong on the way, a line each."""


# --- before -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Effort:
    """What is going to be done. ``steps``: numbers of connections, and octets each way for each.

    ``up`` and ``down``: estimates in octets, and bounds as well, but for the speed of one article.
    """

    steps: tuple[tuple[int, int], ...]
    payload: int
    up: int
    down: int


def plan_effort(limit: int, *, traffic: int, posting: bool, speed: bool) -> Effort:
    """What to try with at most ``limit`` connections within ``traffic`` octets both ways together.

    UsageError when that is too little to find out anything.
    """
    articles = sum(PAYLOADS) * OVERHEAD + (AHEAD_ARTICLES + 1) * SMALL if posting else 0
    fixed_up = int(articles)
    fixed_down = int(articles + sum(DEPTHS) * (SMALL if posting else 100))
    left = traffic - fixed_up - fixed_down
    if left < 0:
        raise UsageError(
            f"the test takes {(fixed_up + fixed_down) / 1e6:.0f} MB even without measuring speed",
            hint="allow more: --traffic",
        )
    if not speed:
        return Effort((), DEFAULT_BLOCK_SIZE, fixed_up, fixed_down)
    counts = step_counts(limit)
    ways = 2 if posting else 1
    steps = tuple((count, left * count // (ways * sum(counts))) for count in counts)
    each_way = sum(octets for _, octets in steps)
    return Effort(
        steps,
        DEFAULT_BLOCK_SIZE,
        fixed_up + (each_way if posting else 0),
        fixed_down + each_way,
    )


def step_counts(limit: int) -> tuple[int, ...]:
    """1, 2, 4, 8, … and the limit."""
    counts = [1]
    while counts[-1] * 2 < limit:
        counts.append(counts[-1] * 2)
    return tuple(dict.fromkeys([*counts, limit]))


# --- after --------------------------------------------------------------------------------------


def recommend(report: Report, *, configured: int, wants_posting: bool) -> Recommendation:
    """What the findings mean for the configuration."""
    posting = report.posting
    usable = posting.allowed and posting.message_id is Fate.KEPT and posting.largest_payload > 0
    best = enough_connections(report.speeds) or _had(report, configured)
    return Recommendation(
        connections=max(1, best),
        max_pipeline=max(1, min(report.pipelining, 32)),
        post_ahead=posting.post_ahead is True,
        posting=usable and wants_posting,
        block_size=_block_size(report),
        warnings=tuple(_warnings(report, configured, wants_posting)),
    )


def _had(report: Report, configured: int) -> int:
    """How many the server gave; where no more than one was asked for, what is configured stands."""
    return min(configured, report.connections) if report.speeds else configured


def enough_connections(speeds: Sequence[Speed]) -> int | None:
    """The fewest that reach nearly the best speed, in both directions where both were measured."""
    needed = [
        min(count for count, speed in measured if speed >= GOOD_ENOUGH * best)
        for measured in (
            [(s.connections, s.upload) for s in speeds if s.upload],
            [(s.connections, s.download) for s in speeds if s.download],
        )
        if measured
        for best in [max(speed for _, speed in measured)]
    ]
    return max(needed, default=None)


def _block_size(report: Report) -> int:
    """The usual one, unless the server takes less, or larger ones make up for a long way."""
    taken = report.posting.largest_payload
    if not taken:
        return DEFAULT_BLOCK_SIZE
    if taken < DEFAULT_BLOCK_SIZE:
        # An article carries its table and up to 8 KiB of padding beside a block.
        return max(PAGE, (taken - 3 * PAGE) // PAGE * PAGE)
    far = report.round_trip >= SLOW_ROUND_TRIP and not report.posting.post_ahead
    if not far:
        return DEFAULT_BLOCK_SIZE
    wanted = (min(taken, LARGEST_BLOCK) - 3 * PAGE) // PAGE * PAGE
    return max(DEFAULT_BLOCK_SIZE, wanted)


def _warnings(report: Report, configured: int, wants_posting: bool) -> list[str]:
    said = []
    if report.tls is None:
        said.append("the connection is not encrypted: password and traffic can be read on the way")
    elif report.tls.expires_in < EXPIRES_SOON:
        said.append(f"the certificate expires in {report.tls.expires_in:.0f} days")
    if _had(report, configured) < configured:
        said.append(f"it let us have {report.connections} connections of {configured} configured")
    posting = report.posting
    if wants_posting and not posting.allowed:
        said.append(f"this account may not post: {posting.reason}; set posting = false")
    if posting.message_id is Fate.REWRITTEN:
        said.append(
            "it gives articles other Message-IDs, so what is computed from the key cannot be found"
            " there: set posting = false, or recovery from this server alone will fail"
        )
    if posting.message_id is Fate.LOST:
        said.append("what it accepted was not there afterwards: set posting = false")
    if posting.allowed and 0 < posting.largest_payload < DEFAULT_BLOCK_SIZE:
        said.append("it does not take articles of the usual size: give init a smaller --block-size")
    return said
