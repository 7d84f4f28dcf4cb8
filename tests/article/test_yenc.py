"""yEnc: two implementations agree, and nothing damaged passes."""

from __future__ import annotations

import re
import zlib

import pytest
import sabctools
from hypothesis import given
from hypothesis import strategies as st

from tests.article.examples import noise
from usenetfs.article.yenc import decode_body, encode_body
from usenetfs.errors import EncodingError

DATA = noise("yenc", 1000)


def decoded_by_sabctools(wire: bytes) -> sabctools.NNTPResponse:
    """What a client makes of the body when a server sends it."""
    reply = b"222 0 <id@example>\r\n" + wire + b".\r\n"
    decoder = sabctools.Decoder(len(reply) + 1024)
    memoryview(decoder)[: len(reply)] = reply
    decoder.process(len(reply))
    return next(iter(decoder))


@given(st.binary(min_size=1, max_size=3000) | st.integers(1, 600).map(lambda n: b"\x04" * n))
def test_round_trip_through_two_decoders(data: bytes) -> None:
    wire = encode_body(data, name="token")
    assert decode_body(wire) == data
    response = decoded_by_sabctools(wire)
    assert bytes(response.data or b"") == data
    assert response.crc == response.crc_expected == zlib.crc32(data)
    assert response.file_name == "token"


@pytest.mark.parametrize("octet", range(256))
def test_every_octet_in_every_column(octet: int) -> None:
    # 259 is prime to the line length, so an octet meets both ends of a line.
    data = bytes([octet]) * 259 + DATA[:3] + bytes([octet]) * 300
    wire = encode_body(data, name="token")
    assert decode_body(wire) == data
    assert bytes(decoded_by_sabctools(wire).data or b"") == data


def test_lines_are_what_posters_write() -> None:
    lines = encode_body(DATA, name="a name").split(b"\r\n")
    assert lines[0] == b"=ybegin part=1 total=1 line=128 size=1000 name=a name"
    assert lines[1] == b"=ypart begin=1 end=1000"
    assert lines[-2] == b"=yend size=1000 part=1 pcrc32=%08x" % zlib.crc32(DATA)
    assert lines[-1] == b""
    assert all(128 <= len(line) <= 129 for line in lines[2:-3])


@given(st.binary(min_size=1, max_size=2000))
def test_no_line_needs_dot_stuffing_or_breaks_the_transport(data: bytes) -> None:
    wire = encode_body(data, name="token")
    assert not wire.startswith(b".")
    assert b"\r\n." not in wire
    assert b"\0" not in wire
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", wire)


def test_any_altered_octet_of_the_data_is_found() -> None:
    wire = encode_body(DATA[:200], name="token")
    start = wire.index(b"end=200\r\n") + len(b"end=200\r\n")
    for position in range(start, wire.index(b"\r\n=yend")):
        altered = bytearray(wire)
        altered[position] ^= 1
        with pytest.raises(EncodingError):
            decode_body(altered)


def test_any_truncation_is_found() -> None:
    wire = encode_body(DATA[:200], name="token")
    for length in range(len(wire)):
        with pytest.raises(EncodingError):
            decode_body(wire[:length])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"size=1000 name", b"size=1001 name"),
        (b"end=1000", b"end=999"),
        (b"=yend size=1000", b"=yend size=1001"),
        (b"total=1", b"total=2"),
        (b"begin=1 ", b"begin=2 "),
        (b"=ypart", b"=ypurt"),
        (b"pcrc32=", b"crc32="),
    ],
)
def test_control_lines_that_disagree_are_refused(old: bytes, new: bytes) -> None:
    wire = encode_body(DATA, name="token")
    assert wire.count(old) == 1
    with pytest.raises(EncodingError):
        decode_body(wire.replace(old, new))


def test_an_escape_at_the_end_is_refused() -> None:
    wire = encode_body(b"abc", name="token").replace(b"\r\n=yend", b"=\r\n=yend")
    with pytest.raises(EncodingError, match="escape"):
        decode_body(wire)


@pytest.mark.parametrize("name", ["", " ", "a\r\nb", "a\tb", "é", " a", "a "])
def test_names_that_would_break_the_line_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        encode_body(DATA, name=name)


def test_nothing_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="nothing"):
        encode_body(b"", name="token")
