"""A container has one meaning; what is not exactly one is refused."""

from __future__ import annotations

import dataclasses
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.article.examples import member, noise
from usenetfs.article import container
from usenetfs.article.container import (
    HEADER_SIZE,
    MAX_CONTAINER_SIZE,
    MAX_MEMBERS,
    MEMBER_SIZE,
    Kind,
    Member,
    choose_padding,
    container_size,
    pack,
    unpack,
)
from usenetfs.errors import ContainerError
from usenetfs.types import DEFAULT_BLOCK_SIZE, BlockNumber, Codec, InodeId, SegmentHash


@st.composite
def members(draw: st.DrawFn) -> tuple[Member, bytes]:
    stored = draw(st.binary(min_size=1, max_size=50))
    codec = draw(st.sampled_from(Codec))
    return (
        Member(
            inode=InodeId(draw(st.integers(1, 2**64 - 1))),
            block=BlockNumber(draw(st.integers(0, 2**64 - 1))),
            hash=SegmentHash(draw(st.binary(min_size=16, max_size=16))),
            codec=codec,
            raw_length=len(stored) + (0 if codec is Codec.NONE else draw(st.integers(1, 10**6))),
            stored_length=len(stored),
        ),
        stored,
    )


@given(
    kind=st.sampled_from(Kind),
    given_members=st.lists(members(), min_size=1, max_size=20),
    padding=st.integers(0, 300),
)
def test_round_trip(kind: Kind, given_members: list[tuple[Member, bytes]], padding: int) -> None:
    packed = pack(kind, given_members, padding)
    stored_bytes = sum(len(stored) for _, stored in given_members)
    assert len(packed) == container_size(len(given_members), stored_bytes) + padding
    opened = unpack(packed)
    assert opened.kind is kind
    assert len(opened) == len(given_members)
    assert opened.members == tuple(row for row, _ in given_members)
    for slot, (row, stored) in enumerate(given_members):
        assert opened.member(slot) == row
        assert opened.payload(slot) == stored
    assert repr(opened) == f"<Container {kind.name} with {len(given_members)} members>"


@given(st.binary(max_size=400))
def test_unpack_raises_nothing_else_on_garbage(garbage: bytes) -> None:
    with pytest.raises(ContainerError):
        unpack(garbage)


@given(
    position=st.integers(0, HEADER_SIZE + 2 * MEMBER_SIZE + 30 + 4),
    value=st.integers(0, 255),
)
def test_an_altered_byte_is_refused_or_means_something_else(position: int, value: int) -> None:
    packed = bytearray(pack(Kind.DATA, [member(b"x" * 10), member(b"y" * 20, block=1)], 5))
    packed[position] = value
    try:
        opened = unpack(packed)
    except ContainerError:
        return
    rows = [(row, bytes(opened.payload(slot))) for slot, row in enumerate(opened.members)]
    assert pack(opened.kind, rows, 5) == packed


def test_payloads_are_views_of_the_plaintext() -> None:
    packed = bytearray(pack(Kind.DATA, [member(b"x" * 10)]))
    payload = unpack(packed).payload(0)
    assert payload.obj is packed
    assert payload.readonly


@pytest.mark.parametrize("slot", [-1, 1])
def test_slots_are_bounded(slot: int) -> None:
    opened = unpack(pack(Kind.DATA, [member(b"x")]))
    with pytest.raises(IndexError):
        opened.member(slot)
    with pytest.raises(IndexError):
        opened.payload(slot)


def raw_container(
    *,
    version: int = 1,
    kind: int = 1,
    count: int = 1,
    payload_length: int = 10,
    row: tuple[int, int, int, int, int] = (1, 0, 10, 10, 0),
    tail: bytes = bytes(10),
) -> bytes:
    inode, block, raw_length, stored_length, codec = row
    return (
        struct.pack(">BBHI", version, kind, count, payload_length)
        + struct.pack(">QQ16sIIB", inode, block, bytes(16), raw_length, stored_length, codec)
        + tail
    )


def test_the_raw_container_of_these_tests_is_one() -> None:
    assert unpack(raw_container()).payload(0) == bytes(10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 0}, "version 0"),
        ({"version": 2}, "version 2"),
        ({"kind": 0}, "kind 0"),
        ({"kind": 200}, "kind 200"),
        ({"count": 0}, "0 members"),
        ({"count": 2}, "ends before"),
        ({"count": MAX_MEMBERS + 1}, "4097 members"),
        ({"payload_length": 9}, "add up"),
        ({"payload_length": 11}, "ends before"),
        ({"payload_length": 2**32 - 1}, "ends before"),
        ({"row": (0, 0, 10, 10, 0)}, "no inode"),
        ({"row": (1, 0, 0, 0, 0), "payload_length": 0, "tail": b""}, "0 bytes"),
        ({"row": (1, 0, 11, 10, 0)}, "two lengths"),
        ({"row": (1, 0, 10, 10, 1)}, "not smaller"),
        ({"row": (1, 0, 10, 11, 2)}, "not smaller"),
        ({"row": (1, 0, 10, 0, 2), "payload_length": 0}, "not smaller"),
        ({"row": (1, 0, 10, 10, 9)}, "codec 9"),
        ({"row": (1, 0, 2**32 - 1, 10, 1)}, "no member has"),
        ({"tail": bytes(10) + b"\0\0\1"}, "padding"),
        ({"tail": bytes(10) + b"\1\0\0"}, "padding"),
        ({"tail": bytes(MAX_CONTAINER_SIZE)}, "no container has"),
    ],
)
def test_what_is_off_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ContainerError, match=message):
        unpack(raw_container(**changes))  # type: ignore[arg-type]


def test_pack_refuses_what_unpack_would() -> None:
    row, stored = member(b"x" * 10)
    wrong: list[tuple[Member, bytes, str]] = [
        (row, b"x" * 9, "stored_length"),
        (dataclasses.replace(row, raw_length=11), stored, "two lengths"),
        (dataclasses.replace(row, codec=Codec.ZSTD), stored, "not smaller"),
        (dataclasses.replace(row, hash=SegmentHash(b"short")), stored, "a hash has"),
        (dataclasses.replace(row, inode=InodeId(0)), stored, "no inode"),
        (dataclasses.replace(row, raw_length=0, stored_length=0), b"", "0 bytes"),
    ]
    for wrong_row, wrong_stored, message in wrong:
        with pytest.raises(ValueError, match=message):
            pack(Kind.DATA, [(wrong_row, wrong_stored)])
    with pytest.raises(ValueError, match="members"):
        pack(Kind.DATA, [])
    with pytest.raises(ValueError, match="members"):
        pack(Kind.DATA, [(row, stored)] * (MAX_MEMBERS + 1))
    with pytest.raises(ValueError, match="negative"):
        pack(Kind.DATA, [(row, stored)], -1)
    with pytest.raises(ValueError, match="at most"):
        pack(Kind.DATA, [(row, stored)], MAX_CONTAINER_SIZE)


def test_documents_have_no_inode() -> None:
    packed = pack(Kind.CHECKPOINT, [member(b"a piece", inode=0)])
    assert unpack(packed).member(0).inode == 0


def test_padding_of_full_articles_is_cheap_and_uniform() -> None:
    size = container_size(1, DEFAULT_BLOCK_SIZE)
    chosen = [choose_padding(size, noise(f"padding {n}", 4)) for n in range(4000)]
    assert min(chosen) >= 0
    assert max(chosen) <= container.PADDING_STEP
    assert sum(chosen) / len(chosen) / size < 0.006
    assert len(set(chosen)) > 2500
    assert choose_padding(size, b"\xff" * 4) == container.PADDING_STEP
    assert choose_padding(size, bytes(4)) == 0


@given(size=st.integers(1, 100_000), randomness=st.binary(min_size=4, max_size=8))
def test_small_articles_look_alike(size: int, randomness: bytes) -> None:
    padded = size + choose_padding(size, randomness)
    least = max(size, container.SMALLEST_PADDED)
    assert least <= padded <= least + container.PADDING_STEP


def test_padding_needs_randomness() -> None:
    with pytest.raises(ValueError, match="random"):
        choose_padding(10, b"abc")
