"""Whole articles: they open again, they are ordinary, and no two are alike."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from email.parser import BytesHeaderParser

import sabctools
from hypothesis import given
from hypothesis import strategies as st

from tests.article.examples import (
    ARTICLE,
    DATE,
    FILESYSTEM_ID,
    KEYS,
    member,
    noise,
    small_container,
)
from usenetfs.article.container import Kind, choose_padding, container_size, pack, unpack
from usenetfs.article.message_ids import chain_message_id, message_id
from usenetfs.article.seal import open_seal
from usenetfs.article.wire import OutgoingArticle, build_article
from usenetfs.article.yenc import decode_body
from usenetfs.types import DEFAULT_BLOCK_SIZE, article_id

# What the protocol and the yEnc convention put into every single-part post.
SKELETON = re.compile(
    rb"Message-ID: <(?P<local>[^@>]+)@(?P<domain>[^>]+)\.[a-z]+>\r\n"
    rb'Subject: (?:\[1/1\] - )?"(?P<name>[^"]+)" yEnc \(1/1\)\r\n'
    rb"From: (?P<shown>[^ ]+) <(?P<user>[^@]+)@(?P<host>[^>]+)\.[a-z]+>\r\n"
    rb"Newsgroups: alt\.test\r\n"
    rb"Date: [^\r]+\r\n"
    rb"\r\n"
    rb"=ybegin part=1 total=1 line=128 size=\d+ name=(?P=name)\r\n"
    rb"=ypart begin=1 end=\d+\r\n"
    rb"(?P<data>.*)\r\n"
    rb"=yend size=\d+ part=1 pcrc32=[0-9a-f]{8}\r\n",
    re.DOTALL,
)


def build(number: int, plaintext: bytes, attempt: int = 0) -> tuple[OutgoingArticle, bytes]:
    return build_article(
        KEYS,
        FILESYSTEM_ID,
        article_id(1, number),
        attempt,
        noise(f"salt {number} {attempt}", 32),
        Kind.DATA,
        plaintext,
        ["alt.test"],
        DATE + timedelta(seconds=number),
    )


@given(st.binary(min_size=1, max_size=3000), st.integers(0, 9000))
def test_what_goes_out_comes_back(data: bytes, padding: int) -> None:
    outgoing, sealed = build(1, pack(Kind.DATA, [member(data)], padding))
    body = decode_body(outgoing.wire.partition(b"\r\n\r\n")[2])
    assert body == sealed
    opened = unpack(open_seal(KEYS.data_key, FILESYSTEM_ID, article_id(1, 1), Kind.DATA, body))
    assert opened.payload(0) == data
    assert opened.members == (member(data)[0],)


def test_a_client_reads_a_full_article() -> None:
    data = noise("full", DEFAULT_BLOCK_SIZE)
    padding = choose_padding(container_size(1, len(data)), b"\xff" * 4)
    outgoing, sealed = build(1, pack(Kind.DATA, [member(data)], padding))
    assert len(outgoing.wire) < 1_000_000  # INN's default maxartsize
    reply = b"220 0 <id@example>\r\n" + outgoing.wire + b".\r\n"
    decoder = sabctools.Decoder(2 * len(reply))
    memoryview(decoder)[: len(reply)] = reply
    decoder.process(len(reply))
    assert bytes(next(iter(decoder)).data or b"") == sealed


def test_identity_of_the_outgoing_article() -> None:
    outgoing, _ = build(5, small_container(), attempt=2)
    assert outgoing.article == article_id(1, 5)
    assert outgoing.attempt == 2
    assert outgoing.message_id == message_id(KEYS.message_id_key, article_id(1, 5), 2)
    assert "wire" not in repr(outgoing)


def test_the_same_article_is_built_again_the_same() -> None:
    assert build(5, small_container()) == build(5, small_container())


def test_a_checkpoint_has_the_id_of_the_chain() -> None:
    chain_id = chain_message_id(KEYS.chain_key, 9)
    outgoing, sealed = build_article(
        KEYS,
        FILESYSTEM_ID,
        article_id(0, 9),
        0,
        noise("checkpoint", 32),
        Kind.CHECKPOINT,
        pack(Kind.CHECKPOINT, [member(b"a piece", inode=0)]),
        ["alt.test"],
        DATE,
        message_id=chain_id,
    )
    assert outgoing.message_id == chain_id
    plaintext = open_seal(KEYS.data_key, FILESYSTEM_ID, article_id(0, 9), Kind.CHECKPOINT, sealed)
    assert bytes(unpack(plaintext).payload(0)) == b"a piece"


def test_headers_parse_and_there_are_no_others() -> None:
    outgoing, _ = build_article(
        KEYS, FILESYSTEM_ID, ARTICLE, 0, bytes(32), Kind.DATA, b"x", ["alt.a", "alt.b"], DATE
    )
    headers = BytesHeaderParser().parsebytes(outgoing.wire)
    assert list(headers) == ["Message-ID", "Subject", "From", "Newsgroups", "Date"]
    assert headers["Newsgroups"] == "alt.a,alt.b"


def test_no_two_articles_share_anything_but_protocol_words() -> None:
    """Every run of 8 octets outside the skeleton occurs in one article alone.

    The articles hold nearly the same (one block, changed in one byte), and are sealed under salts
    that are fixed here, so that the test's outcome is fixed.
    """
    seen = Counter[bytes]()
    for number in range(200):
        data = bytearray(noise("the same block", 1500))
        data[number] ^= 1
        outgoing, _ = build(number, pack(Kind.DATA, [member(bytes(data))], 200))
        match = SKELETON.fullmatch(outgoing.wire)
        assert match is not None
        runs = {
            piece[start : start + 8] for piece in match.groups() for start in range(len(piece) - 7)
        }
        seen.update(runs)
    shared = [run for run, count in seen.items() if count > 1]
    assert len(seen) > 300_000
    assert shared == []


def test_bodies_look_like_noise() -> None:
    """Sealed zeros are spread evenly over all byte values; nothing marks a beginning."""
    count = Counter[int]()
    first = Counter[int]()
    for number in range(200):
        _, sealed = build(number, pack(Kind.DATA, [member(bytes(1000))], 200))
        count.update(sealed)
        first[sealed[0]] += 1
    total = count.total()
    deviation = sum((count[value] - total / 256) ** 2 / (total / 256) for value in range(256))
    assert deviation < 360  # χ² with 255 degrees of freedom: exceeded once in 50,000
    assert first.most_common(1)[0][1] < 8
