"""The recovery key survives handwriting: what is mistyped is found and located."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.article.examples import MASTER
from usenetfs.article.recovery_key import ALPHABET, format_recovery_key, parse_recovery_key
from usenetfs.errors import RecoveryKeyError

KEY = format_recovery_key(MASTER)
masters = st.binary(min_size=32, max_size=32)


def test_shape() -> None:
    assert re.fullmatch(rf"[{ALPHABET}]{{5}}(-[{ALPHABET}]{{5}}){{12}}", KEY)
    assert set("ILOU") & set(ALPHABET) == set()


@given(masters)
def test_round_trip(master: bytes) -> None:
    assert parse_recovery_key(format_recovery_key(master)) == master


@given(masters)
def test_people_type_it_their_way(master: bytes) -> None:
    key = format_recovery_key(master)
    assert parse_recovery_key(f"  {key.lower()}\n") == master
    assert parse_recovery_key(key.replace("-", "")) == master
    assert parse_recovery_key(key.replace("-", " \u2013\n")) == master
    assert parse_recovery_key(key.replace("0", "o").replace("1", "l")) == master
    assert parse_recovery_key(key.replace("0", "O").replace("1", "I")) == master


def test_every_wrong_character_is_found_and_located() -> None:
    for position, letter in enumerate(KEY):
        if letter == "-":
            continue
        for other in ALPHABET.replace(letter, ""):
            with pytest.raises(RecoveryKeyError, match=rf"in group {position // 6 + 1} of"):
                parse_recovery_key(KEY[:position] + other + KEY[position + 1 :])


@given(masters)
def test_exchanged_neighbours_are_found(master: bytes) -> None:
    key = format_recovery_key(master)
    letters = key.replace("-", "")
    for position in range(64):
        one, two = letters[position], letters[position + 1]
        if one != two:
            altered = letters[:position] + two + one + letters[position + 2 :]
            with pytest.raises(RecoveryKeyError, match="mistyped in group"):
                parse_recovery_key(altered)


def test_exchanged_groups_are_found() -> None:
    groups = KEY.split("-")
    for one in range(13):
        for two in range(one):
            altered = list(groups)
            altered[one], altered[two] = altered[two], altered[one]
            with pytest.raises(RecoveryKeyError, match=f"in group {two + 1}, {one + 1} of"):
                parse_recovery_key("-".join(altered))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 characters"),
        (KEY[:-1], "64 characters"),
        (KEY + "0", "66 characters"),
        (KEY[:-1] + "U", "has no 'U'"),
        (KEY[:-1] + "é", "has no 'É'"),
    ],
)
def test_what_is_no_key_is_refused(text: str, message: str) -> None:
    with pytest.raises(RecoveryKeyError, match=message):
        parse_recovery_key(text)


def test_the_whole_is_checked_beyond_the_groups() -> None:
    # A group of another key is right in itself; the checksum refuses 15 of 16 such mixtures.
    groups = KEY.split("-")
    refusals = []
    for number in range(1, 256):
        other = format_recovery_key(bytes([number]) + MASTER[1:]).split("-")
        try:
            parse_recovery_key("-".join([other[0], *groups[1:]]))
        except RecoveryKeyError as error:
            refusals.append(error.message)
    assert set(refusals) == {"the checksum of the recovery key does not match"}
    assert 215 < len(refusals) < 255


def test_errors_do_not_show_the_key() -> None:
    with pytest.raises(RecoveryKeyError) as caught:
        parse_recovery_key(("0" if KEY[0] != "0" else "1") + KEY[1:])
    for group in KEY.split("-")[1:]:
        assert group not in str(caught.value)
