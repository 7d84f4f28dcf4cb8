"""The server's side of a session: commands out of octets, and octets out of replies.

Octets in, events out; no socket, no spool, no clock. One event at a time: after a
:class:`CommandReceived` the caller replies, and only then asks for the next, so pipelined commands
are answered in order and a POST's article is never taken for a command.

Phases::

    phase     until                         event                       then
    ========  ============================  ==========================  ===========================
    COMMAND   a line                        CommandReceived             COMMAND
    COMMAND   a line that is no command     BadCommand                  COMMAND
    COMMAND   > 512 octets without CRLF     BadCommand(501) at its end  COMMAND
    ARTICLE   CRLF . CRLF                   ArticleReceived             COMMAND
    ARTICLE   the same, and it was too      ArticleTooLarge             COMMAND
              large to be kept
    ========  ============================  ==========================  ===========================

ARTICLE is entered by :meth:`ServerProtocol.expect_article`, after the reply 340 or 335.

Invariants: memory is bounded by ``max_article`` plus what one receive brings; each octet is looked
at a bounded number of times, however the input is cut; a reply's text cannot hold CR or LF.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from usenetfs.errors import LocalProtocolError
from usenetfs.nntp.grammar import (
    BLOCK_END,
    CRLF,
    MAX_COMMAND,
    SECRET_VERBS,
    CommandSyntaxError,
    Verb,
    dot_stuff,
    parse_command,
)

LONG_LINE_REPLY: Final = 501


class ServerPhase(enum.Enum):
    """See the module's table."""

    COMMAND = "command"
    ARTICLE = "article"


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """A command; reply to it before asking for the next event."""

    verb: Verb
    arguments: tuple[str, ...] = field(repr=False)

    def __repr__(self) -> str:
        shown = "(…)" if self.verb in SECRET_VERBS else repr(self.arguments)
        return f"<CommandReceived {self.verb.value} {shown}>"


@dataclass(frozen=True, slots=True)
class BadCommand:
    """A line that is no command: reply with ``code`` and ``reason``."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class ArticleReceived:
    """An article as it came over the wire: CRLF lines, dots still stuffed, no terminator."""

    wire: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ArticleTooLarge:
    """An article ended that had more than ``max_article`` octets; it was thrown away."""

    size: int


Event = CommandReceived | BadCommand | ArticleReceived | ArticleTooLarge


class ServerProtocol:
    """See the module. ``max_article``: octets on the wire, terminator not counted."""

    def __init__(self, *, max_article: int = 4 << 20) -> None:
        self._max_article = max_article
        self._buffer = bytearray()
        self._searched = 0
        self._discarded = 0
        self._too_long = False
        self.phase = ServerPhase.COMMAND

    def __repr__(self) -> str:
        return f"<ServerProtocol {self.phase.value} buffered={len(self._buffer)}>"

    @property
    def buffered(self) -> int:
        """Octets received and not yet part of an event."""
        return len(self._buffer)

    # --- in --------------------------------------------------------------------------------------

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Octets came from the client."""
        self._buffer += data

    def next_event(self) -> Event | None:
        """The next event; None: more octets are needed."""
        if self.phase is ServerPhase.ARTICLE:
            return self._next_article()
        return self._next_command()

    def expect_article(self) -> None:
        """340 or 335 was sent: what comes now is an article."""
        if self.phase is ServerPhase.ARTICLE:
            raise LocalProtocolError("an article is expected already")
        self.phase = ServerPhase.ARTICLE
        self._searched = 0
        self._discarded = 0

    def _next_command(self) -> Event | None:
        end = self._buffer.find(CRLF, max(0, self._searched - 1))
        if end < 0:
            self._searched = len(self._buffer)
            if self._searched > MAX_COMMAND:
                # Only its last octet may still belong to the line's end.
                self._too_long = True
                del self._buffer[:-1]
                self._searched = 1
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + len(CRLF)]
        self._searched = 0
        too_long = self._too_long or end + len(CRLF) > MAX_COMMAND
        self._too_long = False
        if too_long:
            return BadCommand(LONG_LINE_REPLY, f"a command line has at most {MAX_COMMAND} octets")
        try:
            verb, arguments = parse_command(line)
        except CommandSyntaxError as error:
            return BadCommand(error.code, error.reason)
        return CommandReceived(verb, arguments)

    def _next_article(self) -> Event | None:
        buffer = self._buffer
        if not self._discarded and buffer.startswith(b".\r\n"):
            end, wire_end = 0, 3
        else:
            end = buffer.find(BLOCK_END, max(0, self._searched - len(BLOCK_END) + 1))
            wire_end = end + len(BLOCK_END)
            if end < 0:
                self._shed()
                return None
            end += len(CRLF)
        size = self._discarded + end
        if size > self._max_article:
            event: Event = ArticleTooLarge(size)
        else:
            with memoryview(buffer) as view:
                event = ArticleReceived(bytes(view[:end]))
        del buffer[:wire_end]
        self.phase = ServerPhase.COMMAND
        self._searched = 0
        return event

    def _shed(self) -> None:
        """Remember how far was searched; throw away what is too large to be kept anyway."""
        if self._discarded + len(self._buffer) > self._max_article + len(BLOCK_END):
            gone = len(self._buffer) - len(BLOCK_END) + 1
            del self._buffer[:gone]
            self._discarded += gone
        self._searched = len(self._buffer)

    # --- out -------------------------------------------------------------------------------------

    def reply(self, code: int, text: str) -> bytes:
        """The octets of a one-line reply."""
        if not 100 <= code <= 599:
            raise LocalProtocolError(f"{code} is no reply code")
        if "\r" in text or "\n" in text or "\0" in text:
            raise LocalProtocolError("a reply's text holds CR, LF or NUL")
        return f"{code} {text}".encode("utf-8", "surrogateescape") + CRLF

    def reply_block(self, code: int, text: str, block: bytes, *, stuffed: bool = False) -> bytes:
        """A reply with a block of CRLF lines; ``stuffed``: its leading dots are doubled already."""
        content = block if stuffed else dot_stuff(block)
        if content and not content.endswith(CRLF):
            raise LocalProtocolError("a block ends with a whole line")
        return b"".join((self.reply(code, text), content, b".\r\n"))
