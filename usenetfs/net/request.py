"""One command on behalf of one caller, from the queue to its reply.

A plain record that whoever holds the request at the moment writes to: the pool's queue, one
connection, then the caller. Invariants: ``committed`` is set before the first octet of an article
is handed to a stream; ``done`` is set once, with ``response`` or ``error``.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from usenetfs.errors import UsenetfsError
from usenetfs.nntp.client import Response
from usenetfs.nntp.grammar import Verb
from usenetfs.types import Lane, MessageId

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@dataclass(slots=True, eq=False)
class Request:
    """One command on behalf of one caller, who waits on ``done``."""

    verb: Verb
    message_id: MessageId
    lane: Lane
    share: Hashable = None
    article: ReadableBuffer | None = None
    """POST only: headers and body, without the terminating ``.`` line."""
    avoid: int = 0
    """Number of a connection that should not be used, or 0."""
    queued_at: float = 0.0
    lost: int = 0
    """Connections that ended while they owed this reply."""
    abandoned: bool = False
    """The caller has gone; nobody wants the reply."""
    committed: bool = False
    """POST: octets of the article may have left."""
    sent_at: float = 0.0
    """When it was given to the connection."""
    ahead: bool = False
    """POST: sent before the reply to another article."""
    sent: bool = False
    """POST: all of the article has been handed to the stream."""
    connection: int = 0
    """Number of the connection that it was answered on."""
    response: Response | None = None
    error: UsenetfsError | None = None
    done: trio.Event = field(default_factory=trio.Event)

    @property
    def background(self) -> bool:
        """Whether it must keep off the reserved connections."""
        return self.lane is not Lane.READER

    def succeed(self, response: Response) -> None:
        self.response = response
        self.done.set()

    def fail(self, error: UsenetfsError) -> None:
        self.error = error
        self.done.set()
