"""Which error is tried again, where, and under which Message-ID: the one table.

Three questions are answered for each class of error (the nearest class in the tree of
:mod:`usenetfs.errors` decides):

- *at once*: what is done about it within the same call, before anybody waits. Another connection
  to the same server takes over what a connection owed when it ended; the next server is asked when
  the server, and not the article, is at fault, or when only this server lacks the article;
- *later*: whether the whole call is worth repeating after a wait, which is the class's
  ``recoverable``; how long and how often, the policy of its kind says (:mod:`usenetfs.net.retry`);
- *Message-ID*: what a POST that is repeated goes out under. The same, wherever the article may have
  arrived or has certainly not left (RFC 3977 §6.3.1); a new one, once a server has refused this one
  for good. A duplicate is looked at first: if it is ours, the article is posted.

``docs/retries.md`` shows this table; a test compares the two. Pure. Must not know connections,
times, or who asks.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from usenetfs.errors import (
    ArticleMissingError,
    ArticleTooLargeError,
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    DuplicateArticleError,
    EncodingError,
    IntegrityError,
    LocalProtocolError,
    NetworkError,
    NoHealthyServersError,
    PostInDoubtError,
    PostingNotAllowedError,
    PostRejectedError,
    QuotaError,
    RemoteProtocolError,
    ServerBusyError,
    TlsError,
    TooManyConnectionsError,
    UsenetfsError,
)


class AtOnce(enum.Enum):
    """What is tried before anybody waits."""

    OTHER_CONNECTION = "another connection, then the next server"
    NEXT_SERVER = "the next server"
    NOTHING = "nothing"


class Identity(enum.Enum):
    """The Message-ID of a POST that is repeated."""

    SAME = "the same"
    LOOK_FIRST = "looked at: ours is posted, else a new one"
    NEW = "a new one"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table, but for ``recoverable``, which the class of the error has."""

    at_once: AtOnce
    identity: Identity = Identity.SAME


RULES: Final[Mapping[type[UsenetfsError], Rule]] = {
    # the way to the server, or the server as a whole
    ConnectionLostError: Rule(AtOnce.OTHER_CONNECTION),
    RemoteProtocolError: Rule(AtOnce.OTHER_CONNECTION),
    ServerBusyError: Rule(AtOnce.OTHER_CONNECTION),
    TooManyConnectionsError: Rule(AtOnce.OTHER_CONNECTION),
    ConnectError: Rule(AtOnce.NEXT_SERVER),
    TlsError: Rule(AtOnce.NEXT_SERVER),
    AuthenticationError: Rule(AtOnce.NEXT_SERVER),
    QuotaError: Rule(AtOnce.NEXT_SERVER),
    NoHealthyServersError: Rule(AtOnce.NOTHING),
    NetworkError: Rule(AtOnce.OTHER_CONNECTION),
    # getting an article
    ArticleMissingError: Rule(AtOnce.NEXT_SERVER),
    EncodingError: Rule(AtOnce.NEXT_SERVER),
    IntegrityError: Rule(AtOnce.NEXT_SERVER),
    # posting one
    PostingNotAllowedError: Rule(AtOnce.NEXT_SERVER),
    PostInDoubtError: Rule(AtOnce.NOTHING),
    DuplicateArticleError: Rule(AtOnce.NOTHING, Identity.LOOK_FIRST),
    PostRejectedError: Rule(AtOnce.NOTHING, Identity.NEW),
    ArticleTooLargeError: Rule(AtOnce.NOTHING),
    # ourselves
    LocalProtocolError: Rule(AtOnce.NOTHING),
    UsenetfsError: Rule(AtOnce.NOTHING),
}


def rule_of(error: UsenetfsError) -> Rule:
    """The row of the nearest class that has one."""
    return next(RULES[kind] for kind in type(error).__mro__ if kind in RULES)


def worth_repeating(error: BaseException) -> bool:
    """Whether the same call may succeed later without anybody changing anything."""
    return isinstance(error, UsenetfsError) and error.recoverable
