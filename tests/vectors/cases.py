"""The cases behind ``article.json``: fixed inputs, and what the codec makes of them.

Everything in :func:`computed` is determined by the format, so it must come out the same for ever.
What a compressor makes may change with its library; :func:`compressed` is made once, and later
versions must only read it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from usenetfs.article.compression import compress
from usenetfs.article.container import Kind, Member, choose_padding, pack
from usenetfs.article.hashing import segment_hash
from usenetfs.article.headers import poster_tokens
from usenetfs.article.key_record import KeyRecordLocator
from usenetfs.article.keys import KeySet
from usenetfs.article.message_ids import chain_message_id, message_id
from usenetfs.article.passphrase import Argon2Cost
from usenetfs.article.recovery_key import format_recovery_key
from usenetfs.article.wire import build_article
from usenetfs.types import BlockNumber, Codec, InodeId, article_id

VECTORS: Final = Path(__file__).with_name("article.json")

MASTER: Final = bytes(range(32))
FILESYSTEM_ID: Final = bytes(range(16, 32))
EPOCH: Final = 2
NUMBER: Final = 77
SALT: Final = bytes(range(64, 96))
DATE: Final = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
RAW: Final = b"".join(b"%d bottles, " % count for count in range(99, 0, -1))
LOCATOR_COST: Final = Argon2Cost(memory_kib=64, iterations=2, lanes=2)


def load() -> dict[str, Any]:
    """The committed vectors."""
    vectors: dict[str, Any] = json.loads(VECTORS.read_text("ascii"))
    return vectors


def computed() -> dict[str, Any]:
    """Everything whose bytes the format determines, binary values in hexadecimal."""
    keys = KeySet.from_master(MASTER, FILESYSTEM_ID)
    article = article_id(EPOCH, NUMBER)
    plaintext = _container(keys)
    outgoing, sealed = build_article(
        keys, FILESYSTEM_ID, article, 1, SALT, Kind.DATA, plaintext, ["alt.binaries.test"], DATE
    )
    return {
        "inputs": {
            "master": MASTER.hex(),
            "filesystem_id": FILESYSTEM_ID.hex(),
            "epoch": EPOCH,
            "number": NUMBER,
            "attempt": 1,
            "salt": SALT.hex(),
            "raw": RAW.hex(),
            "newsgroup": "alt.binaries.test",
            "date": DATE.isoformat(),
        },
        "keys": {field.name: getattr(keys, field.name).hex() for field in fields(keys)},
        "segment_hash": segment_hash(keys.hash_key, RAW).hex(),
        "container": plaintext.hex(),
        "sealed": sealed.hex(),
        "wire": outgoing.wire.hex(),
        "message_ids": {
            f"{epoch}/{number}/{attempt}": message_id(
                keys.message_id_key, article_id(epoch, number), attempt
            )
            for epoch in (1, 2)
            for number in (0, 1, 2**40 - 1)
            for attempt in (0, 1)
        },
        "chain_message_ids": {
            f"{checkpoint}/{copy}": chain_message_id(keys.chain_key, checkpoint, copy)
            for checkpoint in (0, 1, 1000)
            for copy in (0, 1)
        },
        "tokens": _tokens(keys),
        "padding": {
            f"{size}/{randomness}": choose_padding(size, bytes.fromhex(randomness))
            for size in (1, 16_384, 716_849)
            for randomness in ("00000000", "12345678", "ffffffff")
        },
        "recovery_key": format_recovery_key(MASTER),
        "locators": {
            "passphrase": _locator(
                KeyRecordLocator.from_passphrase("pässword", name="n", cost=LOCATOR_COST)
            ),
            "master": _locator(KeyRecordLocator.from_master(MASTER)),
        },
    }


def compressed() -> dict[str, str]:
    """RAW under each codec, in hexadecimal: made once, to be read for ever."""
    return {
        codec.name: bytes(compress(RAW, codec)[1]).hex()
        for codec in (Codec.ZSTD, Codec.LZMA, Codec.ZLIB)
    }


def _container(keys: KeySet) -> bytes:
    members = []
    for slot in range(3):
        stored = hashlib.shake_128(b"member %d" % slot).digest(40 + slot)
        codec = Codec.NONE if slot < 2 else Codec.ZSTD
        row = Member(
            inode=InodeId(1000 + slot),
            block=BlockNumber(slot << 33),
            hash=segment_hash(keys.hash_key, stored),
            codec=codec,
            raw_length=len(stored) + (1000 if codec is Codec.ZSTD else 0),
            stored_length=len(stored),
        )
        members.append((row, stored))
    return pack(Kind.DATA, members, 21)


def _tokens(keys: KeySet) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {}
    for number in range(6):
        name = message_id(keys.message_id_key, article_id(1, number), 0)
        tokens = poster_tokens(keys.header_key, name)
        made[name] = [tokens.sender, tokens.subject, tokens.yenc_name]
    return made


def _locator(locator: KeyRecordLocator) -> dict[str, str]:
    made = {field.name: getattr(locator, field.name).hex() for field in fields(locator)}
    return made | {f"message_id {n}": locator.message_id(n) for n in (0, 1)}
