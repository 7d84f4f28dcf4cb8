"""The record of a checkpoint: one way to write it, and everything else refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usenetfs.article.container import Kind, unpack
from usenetfs.checkpoint.documents import build_piece, compress_whole
from usenetfs.checkpoint.record import (
    Counters,
    DocumentRef,
    OpenedCheckpoint,
    Record,
    build_checkpoint,
    open_checkpoint,
)
from usenetfs.errors import RecordError
from usenetfs.types import ArticleId, article_id

HASH_KEY = bytes(32)
RANDOMNESS = bytes(4)
NUMBERS = st.integers(0, 2**63 - 1)
HASHES = st.binary(min_size=32, max_size=32)


def elsewhere(pieces: int = 2) -> DocumentRef:
    copies = tuple(
        ((article_id(1, 10 + piece), 0), (article_id(1, 90 + piece), 3)) for piece in range(pieces)
    )
    return DocumentRef(size=5000, sha256=bytes(32), stored=3000, inline=False, articles=copies)


def inline(content: bytes) -> DocumentRef:
    return DocumentRef(size=9, sha256=b"\1" * 32, stored=len(content), inline=True)


def record(**changes: Any) -> Record:
    example = Record(
        number=7,
        writer=bytes(range(8)),
        epoch=1,
        schema=1,
        time=1_790_000_000,
        previous=b"\2" * 32,
        base=4,
        changeset=elsewhere(),
        snapshot=None,
        digest=b"\3" * 32,
        counters=Counters(files=3, directories=2, bytes=100, articles=1, held=0),
        next_article=99,
    )
    return replace(example, **changes)


DOCUMENTS = st.one_of(
    st.builds(DocumentRef, NUMBERS, HASHES, NUMBERS, st.just(value=True), st.just(())),
    st.builds(
        DocumentRef,
        NUMBERS,
        HASHES,
        NUMBERS,
        st.just(value=False),
        st.lists(
            st.lists(
                st.tuples(NUMBERS.map(ArticleId), st.integers(0, 2**32 - 1)),
                min_size=1,
                max_size=3,
            ).map(tuple),
            min_size=1,
            max_size=3,
        ).map(tuple),
    ),
)


@given(
    number=st.integers(1, 2**63 - 1),
    writer=st.binary(min_size=8, max_size=8),
    epoch=st.integers(0, 2**23 - 1),
    changeset=DOCUMENTS,
    snapshot=st.none() | DOCUMENTS,
    previous=HASHES,
    digest=HASHES,
    counts=st.builds(Counters, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
)
def test_every_record_is_read_as_it_was_written(
    number: int, changeset: DocumentRef, counts: Counters, **rest: Any
) -> None:
    written = record(number=number, base=number - 1, changeset=changeset, counters=counts, **rest)
    content = written.to_bytes()
    read = Record.from_bytes(content)
    assert read == written
    assert read.to_bytes() == content
    assert read.sha256 == written.sha256


def test_the_first_record_has_a_snapshot_alone() -> None:
    first = record(number=0, previous=None, base=None, changeset=None, snapshot=elsewhere())
    assert Record.from_bytes(first.to_bytes()) == first


def edited(edit: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(record().to_bytes())
    edit(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b" " * 1_000_000, id="too long"),
        pytest.param(record().to_bytes() + b" ", id="white space"),
        pytest.param(edited(lambda d: d.update(version=2)), id="version"),
        pytest.param(edited(lambda d: d.update(version=True)), id="version true"),
        pytest.param(edited(lambda d: d.update(extra=1)), id="a key more"),
        pytest.param(edited(lambda d: d.pop("digest")), id="a key less"),
        pytest.param(edited(lambda d: d.update(number=-1)), id="negative"),
        pytest.param(edited(lambda d: d.update(number=7.0)), id="a fraction"),
        pytest.param(edited(lambda d: d.update(number=2**63)), id="too large"),
        pytest.param(edited(lambda d: d.update(epoch=2**23)), id="epoch"),
        pytest.param(edited(lambda d: d.update(writer="00")), id="writer"),
        pytest.param(edited(lambda d: d.update(digest=5)), id="digest"),
        pytest.param(edited(lambda d: d.update(previous=None)), id="no previous"),
        pytest.param(edited(lambda d: d.update(base=7)), id="base is itself"),
        pytest.param(edited(lambda d: d.update(base=None)), id="no base"),
        pytest.param(edited(lambda d: d.update(changeset=None)), id="no changeset"),
        pytest.param(edited(lambda d: d.update(base=None, changeset=None)), id="no document"),
        pytest.param(edited(lambda d: d["changeset"].update(inline=True)), id="inline and not"),
        pytest.param(edited(lambda d: d["changeset"].update(inline=0)), id="inline a number"),
        pytest.param(edited(lambda d: d["changeset"].update(articles=[])), id="nowhere"),
        pytest.param(edited(lambda d: d["changeset"].update(articles=[[]])), id="no copy"),
        pytest.param(edited(lambda d: d["changeset"].update(articles=[[[1]]])), id="half a place"),
        pytest.param(edited(lambda d: d["changeset"].update(articles={})), id="no list"),
        pytest.param(edited(lambda d: d["counters"].update(more=1)), id="a counter more"),
        pytest.param(edited(lambda d: d.update(counters=[])), id="no counters"),
        pytest.param(record().to_bytes().replace(b"0203", b"0203".upper(), 1)[:-1], id="cut"),
        pytest.param(
            record(digest=b"\xab" * 32).to_bytes().replace(b"abab", b"ABAB"), id="capitals"
        ),
        pytest.param(
            record().to_bytes().replace(b'"version":1', b'"version":1,"version":1'), id="twice"
        ),
    ],
)
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(RecordError):
        Record.from_bytes(content)


@given(content=st.binary(max_size=100), at=st.integers(0, 600))
def test_damage_ends_in_one_kind_of_error(content: bytes, at: int) -> None:
    whole = record().to_bytes()
    try:
        read = Record.from_bytes(whole[:at] + content + whole[at + len(content) :])
    except RecordError:
        return
    assert read.to_bytes()


# --- in the article ------------------------------------------------------------------------------


def test_a_checkpoint_carries_its_documents() -> None:
    changes, whole = compress_whole(b"changes.."), compress_whole(b"snapshot.")
    both = record(changeset=inline(changes), snapshot=inline(whole))
    plaintext = build_checkpoint(
        both, changeset=changes, snapshot=whole, hash_key=HASH_KEY, randomness=RANDOMNESS
    )
    opened = open_checkpoint(unpack(plaintext), number=7)
    assert opened == OpenedCheckpoint(both, changes, whole)

    one = record(snapshot=inline(whole))
    plaintext = build_checkpoint(one, snapshot=whole, hash_key=HASH_KEY, randomness=RANDOMNESS)
    assert open_checkpoint(unpack(plaintext), number=7) == OpenedCheckpoint(one, None, whole)


def test_documents_and_record_must_agree() -> None:
    with pytest.raises(ValueError, match="inline"):
        build_checkpoint(record(), changeset=b"x", hash_key=HASH_KEY, randomness=RANDOMNESS)
    with pytest.raises(ValueError, match="inline"):
        build_checkpoint(record(changeset=inline(b"x")), hash_key=HASH_KEY, randomness=RANDOMNESS)


def test_what_is_no_checkpoint_of_that_number_is_refused() -> None:
    plaintext = build_checkpoint(record(), hash_key=HASH_KEY, randomness=RANDOMNESS)
    with pytest.raises(RecordError, match="says that it is 7"):
        open_checkpoint(unpack(plaintext), number=8)
    piece = build_piece(
        Kind.CHECKPOINT, 1, record().to_bytes(), hash_key=HASH_KEY, randomness=RANDOMNESS
    )
    with pytest.raises(RecordError, match="unknown way"):
        open_checkpoint(unpack(piece), number=7)
    piece = build_piece(
        Kind.CHANGESET, 0, record().to_bytes(), hash_key=HASH_KEY, randomness=RANDOMNESS
    )
    with pytest.raises(RecordError, match="no checkpoint"):
        open_checkpoint(unpack(piece), number=7)
    lacking = build_piece(
        Kind.CHECKPOINT,
        0,
        record(changeset=inline(b"x")).to_bytes(),
        hash_key=HASH_KEY,
        randomness=RANDOMNESS,
    )
    with pytest.raises(RecordError, match="lacks"):
        open_checkpoint(unpack(lacking), number=7)
