"""What the bare loops post is yEnc that others can join, sealed, and opens by its number only."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from scripts.bench.articles import (
    BLOCK,
    count,
    fresh_ids,
    nzb,
    opened,
    opened_into,
    post_of,
    sealed,
    sealed_size,
)
from scripts.bench.nyuu import posted
from usenetfs.errors import SealError


def test_a_piece_opens_under_its_own_number_only() -> None:
    body = sealed(3, b"payload")
    room = memoryview(bytearray(BLOCK))
    assert opened(3, body) == b"payload"
    assert opened_into(3, body, room) == b"payload"
    for wrong in (lambda: opened(4, body), lambda: opened_into(4, body, room)):
        with pytest.raises(SealError):
            wrong()


def test_parts_say_where_they_belong() -> None:
    size = BLOCK + 100
    assert count(size) == 2
    (message_id,) = fresh_ids(1)
    body = sealed(1, os.urandom(100))
    post = post_of(1, 2, sealed_size(size), body, message_id)
    first = BLOCK + 48 + 1
    assert f"=ypart begin={first} end={sealed_size(size)}\r\n".encode() in post
    assert post.startswith(f"Message-ID: {message_id}\r\n".encode())
    assert post.endswith(b"\r\n.\r\n")
    assert len(post) < 1_000_000


def test_ids_are_never_the_same() -> None:
    assert len({*fresh_ids(100), *fresh_ids(100)}) == 200


def test_an_nzb_names_every_part_in_order(tmp_path: Path) -> None:
    ids = fresh_ids(3)
    text = nzb(ids, 740_000)
    assert ET.fromstring(text.partition("?>")[2].strip().partition(">")[2]) is not None
    (tmp_path / "nzb").write_text(text)
    assert posted(tmp_path / "nzb") == [ids]
