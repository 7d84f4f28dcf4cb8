"""Message-IDs: valid, unlinkable, never twice."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from tests.article.examples import KEYS
from usenetfs.article.message_ids import (
    chain_message_id,
    key_record_message_id,
    message_id,
)
from usenetfs.types import article_id

# RFC 5536 §3.1.3: dot-atom-text on both sides, 250 octets at most with the brackets.
ATOM = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+"
SHAPE = re.compile(rf"<{ATOM}(\.{ATOM})*@{ATOM}(\.{ATOM})*>")

KEY = KEYS.message_id_key
places = st.tuples(st.integers(0, 2**23 - 1), st.integers(0, 2**40 - 1), st.integers(0, 2**32 - 1))


@given(places)
def test_shape_is_what_rfc_5536_wants(place: tuple[int, int, int]) -> None:
    epoch, number, attempt = place
    made = message_id(KEY, article_id(epoch, number), attempt)
    assert SHAPE.fullmatch(made)
    assert len(made) <= 60
    assert made == message_id(KEY, article_id(epoch, number), attempt)


@given(places, places)
def test_places_never_share_an_id(one: tuple[int, int, int], two: tuple[int, int, int]) -> None:
    ids = {message_id(KEY, article_id(*place[:2]), place[2]) for place in (one, two)}
    assert len(ids) == len({one, two})


def test_purposes_keys_and_copies_never_share_an_id() -> None:
    ids = [
        message_id(KEY, article_id(0, 7), 0),
        message_id(KEY, article_id(0, 7), 1),
        message_id(KEYS.chain_key, article_id(0, 7), 0),
        chain_message_id(KEYS.chain_key, 7),
        chain_message_id(KEYS.chain_key, 7, 1),
        chain_message_id(KEY, 7),
        key_record_message_id(KEY, 7),
        key_record_message_id(KEY, 7, 1),
    ]
    assert len(set(ids)) == len(ids)


def test_lengths_and_alphabets_vary() -> None:
    ids = [message_id(KEY, article_id(1, number), 0) for number in range(300)]
    locals_, domains = zip(*(made[1:-1].split("@") for made in ids), strict=True)
    assert len({len(part) for part in locals_}) > 10
    assert len({len(part) for part in domains}) > 7
    assert len({part.rpartition(".")[2] for part in domains}) > 50
    assert len({part.rpartition(".")[0] for part in domains}) == 300
    assert any(re.fullmatch("[0-9a-f]{32}", part) for part in locals_)
    assert any(re.search("[A-Z]", part) for part in locals_)
    # No part of an id tells its neighbour: every first letter comes up about equally often.
    assert len({part[0] for part in locals_}) > 45
