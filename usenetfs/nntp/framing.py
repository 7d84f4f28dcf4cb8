"""Octets from a server into replies: where one ends and the next begins.

Owns the receive buffer. Given the verb a reply belongs to, it finds the status line, the block and
the yEnc in it. Knows nothing of what was asked before or after, nor which codes are welcome.

==========  ==============================================  ==========
phase       until                                           then
==========  ==============================================  ==========
STATUS      CRLF, and the code has no block                 STATUS
STATUS      CRLF, and the code has a block for this verb    BLOCK
BLOCK       CRLF . CRLF                                     STATUS
BLOCK       a line ``=ybegin`` (BODY and ARTICLE only)      YENC
YENC        CRLF . CRLF                                     STATUS
==========  ==============================================  ==========

Inside a yEnc body octets are received straight into the decoder's memory, all but the last ones.

Invariants: the buffer is never resized, so views of it stay valid; between calls it holds at most
an unfinished status line, moved to its front, and nothing while the decoder's memory is used; a
reply of more than ``max_response`` octets is an
error as soon as that many have come; work is linear in the octets received, whatever their chunks.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from usenetfs.errors import LocalProtocolError, RemoteProtocolError
from usenetfs.nntp.grammar import BLOCK_CODES, BLOCK_END, CRLF, Verb, clean_text
from usenetfs.nntp.yenc_stream import YENC_MARK, YencBody, YencStream, declared_size

MAX_STATUS_LINE: Final = 2048
"""Octets. RFC 3977 §3.1 says 512; some servers explain themselves at length."""
MIN_BUFFER: Final = 2 * MAX_STATUS_LINE
_PIECE: Final = 8 * 1024
"""Octets of a block looked at together, so that little of a yEnc body is copied needlessly."""
_STATUS_LINE: Final = re.compile(rb"([1-5][0-9][0-9])(?: ([^\x00\r\n]*))?")


class _Phase(enum.Enum):
    STATUS = enum.auto()
    BLOCK = enum.auto()
    YENC = enum.auto()


@dataclass(frozen=True, slots=True)
class Frame:
    """One reply, whole. ``lines``: see ``client.Response``."""

    code: int
    text: str
    lines: tuple[bytes, ...] | None
    body: YencBody | None
    wire_size: int


class ResponseFramer:
    """Cuts what a server sends into replies."""

    def __init__(self, *, buffer_size: int, max_response: int) -> None:
        if buffer_size < MIN_BUFFER:
            raise ValueError(f"a buffer of {buffer_size} octets cannot hold a status line")
        self._buffer = bytearray(buffer_size)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._max_response = max_response
        self._phase = _Phase.STATUS
        self._status = (0, "")
        self._size = 0
        self._block = bytearray()
        self._yenc_at = -1
        self._yenc: YencStream | None = None
        self._direct = 0
        """Octets of the decoder's memory that were given out; 0: of this buffer's."""
        self._preamble: tuple[bytes, ...] | None = None
        self.discreet = False
        """Set once a secret was sent, which a server may echo: errors then quote nothing."""

    def __repr__(self) -> str:
        return f"<ResponseFramer {self._phase.name} {self._size} octets, {self.pending} pending>"

    @property
    def pending(self) -> int:
        """Octets received that have not been looked at, or that wait for the rest of a line."""
        return self._end - self._start

    @property
    def idle(self) -> bool:
        """Between two replies."""
        return self._phase is _Phase.STATUS and not self.pending

    def buffer(self) -> memoryview:
        """Where to receive to; never empty."""
        self._direct = 0
        if self._phase is _Phase.YENC and not self.pending:
            assert self._yenc is not None
            room = self._yenc.room()
            if room is not None:
                room = room[: len(self._buffer)]  # where it may have to go back to
                self._direct = len(room)
                return room
        return self._view[self._end :]

    def commit(self, count: int) -> bool:
        """``count`` octets were put into the buffer; True: they ended no reply, do not look."""
        if self._direct:
            return self._commit_direct(count)
        if not 0 <= count <= len(self._buffer) - self._end:
            raise LocalProtocolError(f"{count} octets do not fit the buffer that was given")
        self._end += count
        return False

    def _commit_direct(self, count: int) -> bool:
        if not 0 < count <= self._direct:
            raise LocalProtocolError(f"{count} octets do not fit the buffer that was given")
        self._direct = 0
        assert self._yenc is not None
        surplus = self._yenc.received(count)
        self._consume(0, count - len(surplus))
        if surplus:
            self._buffer[: len(surplus)] = surplus
            self._end = len(surplus)
        return self._yenc.finished is None

    def next_frame(self, verb: Verb | None) -> Frame | None:
        """The next whole reply, which is to ``verb``; None: more octets are needed."""
        frame = None
        if self._phase is _Phase.STATUS:
            frame = self._read_status(verb)
        while frame is None and self._phase is _Phase.BLOCK and self.pending:
            frame = self._read_block(verb)
        if frame is None and self._phase is _Phase.YENC:
            frame = self._read_yenc()
        if frame is None and self._start:
            self._to_front()
        return frame

    def _to_front(self) -> None:
        pending = self.pending
        self._buffer[:pending] = self._buffer[self._start : self._end]
        self._start, self._end = 0, pending

    def _consume(self, position: int, count: int) -> None:
        """Octets up to ``position`` are done with; ``count`` of them belong to this reply."""
        self._start = position
        self._size += count
        if self._size > self._max_response:
            raise RemoteProtocolError(f"a reply exceeds {self._max_response} octets")

    def _finish(self, lines: tuple[bytes, ...] | None, body: YencBody | None = None) -> Frame:
        code, text = self._status
        frame = Frame(code, text, lines, body, self._size)
        self._phase = _Phase.STATUS
        self._size = 0
        self._block = bytearray()
        self._yenc_at = -1
        self._preamble = None
        return frame

    # --- status lines -------------------------------------------------------------------------

    def _read_status(self, verb: Verb | None) -> Frame | None:
        limit = min(self._end, self._start + MAX_STATUS_LINE)
        found = self._buffer.find(CRLF, self._start, limit)
        if found < 0:
            if self.pending >= MAX_STATUS_LINE:
                raise RemoteProtocolError(f"a status line exceeds {MAX_STATUS_LINE} octets")
            return None
        line = bytes(self._view[self._start : found])
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            shown = "" if self.discreet else f": {line[:40]!r}"
            raise RemoteProtocolError(f"this is no status line{shown}")
        self._status = (int(match[1]), clean_text(match[2] or b""))
        self._consume(found + 2, len(line) + 2)
        if verb is None or BLOCK_CODES.get(verb) != self._status[0]:
            return self._finish(None)
        self._phase = _Phase.BLOCK
        self._block += CRLF  # so that an empty block ends like any other
        return None

    # --- blocks -------------------------------------------------------------------------------

    def _read_block(self, verb: Verb | None) -> Frame | None:
        block = self._block
        known = len(block)
        position = min(self._end, self._start + _PIECE)
        block += self._view[self._start : position]
        end = block.find(BLOCK_END, max(0, known - len(BLOCK_END) + 1))
        if self._yenc_at < 0 and verb in {Verb.BODY, Verb.ARTICLE}:
            self._yenc_at = block.find(YENC_MARK, max(0, known - len(YENC_MARK) + 1))
        if end >= 0 and not 0 <= self._yenc_at < end:
            surplus = len(block) - end - len(BLOCK_END)
            self._consume(position - surplus, len(block) - known - surplus)
            return self._finish(_lines(bytes(block[2 : end + 2])))
        if self._yenc_at >= 0:
            declared = declared_size(block, self._yenc_at + 2)
            if declared is not None:
                return self._begin_yenc(declared, known, position)
        self._consume(position, len(block) - known)
        return None

    def _begin_yenc(self, declared: int, known: int, position: int) -> Frame | None:
        """Hand the block from ``=ybegin`` on to the decoder; the end may be in it already."""
        block, start = self._block, self._yenc_at + 2
        if self._yenc is None:
            self._yenc = YencStream()
        if start > 2:
            self._preamble = _lines(bytes(block[2:start]))
        self._yenc.begin(declared if declared <= self._max_response else 0)
        self._phase = _Phase.YENC
        surplus = len(block) - self._yenc.feed(block, start, len(block))
        self._consume(position - surplus, len(block) - known - surplus)
        self._block = bytearray()
        return self._yenc_frame()

    # --- yEnc ---------------------------------------------------------------------------------

    def _read_yenc(self) -> Frame | None:
        assert self._yenc is not None
        if self.pending and self._yenc.finished is None:
            start = self._start
            stop = self._yenc.feed(self._buffer, start, self._end)
            self._consume(stop, stop - start)
        return self._yenc_frame()

    def _yenc_frame(self) -> Frame | None:
        assert self._yenc is not None
        body = self._yenc.finished
        if body is None:
            return None
        self._yenc.finished = None
        return self._finish(self._preamble, body)


def _lines(content: bytes) -> tuple[bytes, ...]:
    """Lines without CRLF and without stuffed dots; ``content`` is empty or ends with CRLF."""
    if not content:
        return ()
    return tuple(line[1:] if line.startswith(b".") else line for line in content[:-2].split(CRLF))
