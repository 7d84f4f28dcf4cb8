"""Tokens are uniform, repeatable and bounded by their material."""

from __future__ import annotations

from collections import Counter

import pytest

from usenetfs.article.tokens import MIXED_DIGITS, TokenStream


def test_same_material_gives_same_choices() -> None:
    def draw(context: bytes) -> tuple[str, int, str]:
        stream = TokenStream(b"key", context)
        return stream.word(MIXED_DIGITS, 20), stream.between(3, 9), stream.choice("abc")

    assert draw(b"one") == draw(b"one")
    assert draw(b"one") != draw(b"two")


def test_letters_are_uniform() -> None:
    count = Counter[str]()
    for number in range(2000):
        count.update(TokenStream(b"key", number.to_bytes(4, "big")).word(MIXED_DIGITS, 30))
    expected = 2000 * 30 / len(MIXED_DIGITS)
    deviation = sum((count[letter] - expected) ** 2 / expected for letter in MIXED_DIGITS)
    # χ² with 61 degrees of freedom exceeds 120 once in 200,000 keys; bytes modulo 62 give > 2,000.
    assert deviation < 120


def test_bounds() -> None:
    seen = {TokenStream(b"key", bytes([number])).between(5, 8) for number in range(100)}
    assert seen == {5, 6, 7, 8}


def test_material_runs_out_loudly() -> None:
    stream = TokenStream(b"key", b"")
    stream.word(MIXED_DIGITS, 60)
    assert "26 bits left" in repr(stream)
    with pytest.raises(ValueError, match="too many tokens"):
        stream.word(MIXED_DIGITS, 10)
