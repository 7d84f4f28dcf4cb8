"""yEnc, the way single-part posts carry it.

Owns: the three control lines and a strict decoder for bodies at hand (tests, recovery tools). What
comes from a socket is decoded by ``nntp/`` as it arrives, not here.

Octets come from sabctools, which escapes a dot at the start of a line: what is made here needs no
dot-stuffing. It encodes only ``bytes``, allocates its output and releases the GIL.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

import sabctools

from usenetfs.errors import EncodingError

LINE_LENGTH: Final = 128

_NAME: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_BEGIN: Final = re.compile(
    rb"=ybegin part=1 total=1 line=(\d{1,4}) size=(\d{1,10}) name=([^\r\n]*)\r\n"
    rb"=ypart begin=1 end=(\d{1,10})\r\n"
)
_END: Final = re.compile(
    rb"\r\n=yend size=(\d{1,10}) part=1 pcrc32=([0-9a-fA-F]{8})(?: [^\r\n]*)?\r\n"
)
_LONGEST_TRAILER: Final = 256
_SHIFT_DECODE: Final = bytes((value - 42) % 256 for value in range(256))


def body_parts(sealed: bytes, *, name: str) -> tuple[bytes, bytes, bytes]:
    """``(opening lines, encoded data, closing line)``, to be joined once with the headers.

    :param sealed: not empty.
    :param name: for ``name=``; printable ASCII.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("a yEnc name is printable ASCII")
    if not sealed:
        raise ValueError("there is nothing to encode")
    encoded, crc = sabctools.yenc_encode(sealed)
    size = len(sealed)
    opening = (
        f"=ybegin part=1 total=1 line={LINE_LENGTH} size={size} name={name}\r\n"
        f"=ypart begin=1 end={size}\r\n"
    )
    closing = f"\r\n=yend size={size} part=1 pcrc32={crc:08x}\r\n"
    return opening.encode("ascii"), encoded, closing.encode("ascii")


def encode_body(sealed: bytes, *, name: str) -> bytes:
    """An article body from ``=ybegin`` to ``=yend``, CRLF line ends, needing no dot-stuffing."""
    return b"".join(body_parts(sealed, name=name))


def decode_body(wire: bytes | bytearray | memoryview) -> bytearray:
    """The data of a body made by :func:`encode_body` (dot-stuffing already undone).

    Strict: EncodingError unless the control lines agree with each other and with the data, CRC
    included. Independent of sabctools, so that each checks the other.
    """
    text = bytes(wire)
    begin = _BEGIN.match(text)
    if begin is None:
        raise EncodingError("no =ybegin and =ypart lines of a single-part post")
    trailer_at = text.rfind(b"\r\n=yend ", max(begin.end() - 2, len(text) - _LONGEST_TRAILER))
    end = _END.fullmatch(text, trailer_at) if trailer_at >= 0 else None
    if end is None:
        raise EncodingError("no =yend line at the end: the article is incomplete")
    data = _decode_lines(text[begin.end() : trailer_at])
    sizes = {int(begin[2]), int(begin[4]), int(end[1]), len(data)}
    if len(sizes) != 1:
        raise EncodingError(f"the sizes of the yEnc data do not agree: {sorted(sizes)}")
    if zlib.crc32(data) != int(end[2], 16):
        raise EncodingError("the CRC of the yEnc data does not match")
    return data


def _decode_lines(encoded: bytes) -> bytearray:
    """Undo line ends, escapes (``=`` then the octet + 64) and the shift by 42."""
    pieces = encoded.replace(b"\r\n", b"").split(b"=")
    data = bytearray(pieces[0].translate(_SHIFT_DECODE))
    for piece in pieces[1:]:
        if not piece:
            raise EncodingError("an escape character escapes nothing")
        data.append((piece[0] - 64 - 42) % 256)
        data += piece[1:].translate(_SHIFT_DECODE)
    return data
