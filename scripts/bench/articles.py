"""The articles that the bare loops post and fetch: a file in pieces, sealed, in multi-part yEnc.

Every piece is sealed as usenetfs seals its articles, and the sealed pieces are the parts of one
yEnc file, so that an ordinary downloader can join them and each can be opened afterwards. The keys
are constants: what is measured holds no secrets. Pure but for the random salt.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

import sabctools

from usenetfs.article.container import Kind
from usenetfs.article.keys import KeySet
from usenetfs.article.seal import SEAL_OVERHEAD, new_salt, open_seal, open_seal_into, seal
from usenetfs.types import ArticleId, MessageId, article_id

BLOCK: Final = 716_800
"""Octets of payload in an article: what usenetfs puts into one."""
FILESYSTEM_ID: Final = bytes(16)
KEYS: Final = KeySet.from_master(bytes(32), FILESYSTEM_ID)
GROUP: Final = "alt.binaries.test"
NAME: Final = "payload.bin"


def count(size: int) -> int:
    """How many articles ``size`` octets make."""
    return -(-size // BLOCK)


def fresh_ids(number: int) -> list[MessageId]:
    """That many Message-IDs that no server has seen."""
    run = secrets.token_hex(8)
    return [MessageId(f"<{n:06x}.{run}@bench.example>") for n in range(number)]


def article(number: int) -> ArticleId:
    """The article's place, which its seal is bound to."""
    return article_id(0, number)


def sealed(number: int, payload: bytes) -> bytes:
    """Piece ``number`` under its seal."""
    return seal(KEYS.data_key, FILESYSTEM_ID, article(number), Kind.DATA, new_salt(), payload)


def opened(number: int, body: bytes | bytearray) -> bytes:
    """The piece. SealError unless it is exactly the one that was sealed under this number."""
    return open_seal(KEYS.data_key, FILESYSTEM_ID, article(number), Kind.DATA, body)


def opened_into(number: int, body: bytes | bytearray, room: memoryview) -> memoryview:
    """The piece, in ``room`` (at least ``BLOCK`` octets). SealError as for :func:`opened`."""
    plaintext = room[: len(body) - SEAL_OVERHEAD]
    place = article(number)
    open_seal_into(KEYS.data_key, FILESYSTEM_ID, place, Kind.DATA, body, plaintext)
    return plaintext


def sealed_size(size: int) -> int:
    """Octets of a payload of ``size`` once all of its pieces are sealed."""
    return size + count(size) * SEAL_OVERHEAD


def post_of(number: int, total: int, size: int, body: bytes, message_id: MessageId) -> bytes:
    """Part ``number`` (from 0) of ``total``: headers, yEnc and the terminator, ready to be sent.

    ``size``: octets of the file that all sealed parts make.
    """
    encoded, crc = sabctools.yenc_encode(body)
    begin = number * (BLOCK + SEAL_OVERHEAD)
    head = (
        f"Message-ID: {message_id}\r\n"
        f'Subject: "{NAME}" yEnc ({number + 1}/{total})\r\n'
        "From: bench <bench@bench.example>\r\n"
        f"Newsgroups: {GROUP}\r\n"
        "\r\n"
        f"=ybegin part={number + 1} total={total} line=128 size={size} name={NAME}\r\n"
        f"=ypart begin={begin + 1} end={begin + len(body)}\r\n"
    )
    foot = f"\r\n=yend size={len(body)} part={number + 1} pcrc32={crc:08x}\r\n.\r\n"
    return b"".join((head.encode(), encoded, foot.encode()))


def nzb(ids: Sequence[MessageId], size: int) -> str:
    """The NZB of one file whose parts have these ids; ``size``: octets of an encoded part."""
    segments = "".join(
        f'<segment bytes="{size}" number="{number}">{escape(message_id[1:-1])}</segment>\n'
        for number, message_id in enumerate(ids, start=1)
    )
    subject = quoteattr(f'[1/1] - "{NAME}" yEnc (1/{len(ids)})')
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE nzb PUBLIC "-//newzBin//DTD NZB 1.1//EN"'
        ' "http://www.newzbin.com/DTD/nzb/nzb-1.1.dtd">\n'
        '<nzb xmlns="http://www.newzbin.com/DTD/2003/nzb">\n'
        f'<file poster="bench" date="1700000000" subject={subject}>\n'
        f"<groups><group>{GROUP}</group></groups>\n"
        f"<segments>\n{segments}</segments>\n</file>\n</nzb>\n"
    )
