"""Random-looking words from key material, without bias.

An article's tokens are computed, not drawn, so that an article rebuilt after a crash is the same
article. The material (64 bytes of HMAC-SHA512 output) is read as one large integer and divided by
the number of choices each time; so each choice is uniform to within 2**-128 as long as fewer than
about 380 bits are taken. A byte taken modulo 62 would favour eight letters by a quarter, which is
the kind of constant that tells one program's articles from another's.

Must not know: what the tokens are for.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

LOWER: Final = "abcdefghijklmnopqrstuvwxyz"
DIGITS: Final = "0123456789"
HEX: Final = "0123456789abcdef"
LOWER_DIGITS: Final = LOWER + DIGITS
MIXED: Final = LOWER.upper() + LOWER
MIXED_DIGITS: Final = MIXED + DIGITS

MATERIAL_BITS: Final = 512
SPARE_BITS: Final = 128


class TokenStream:
    """Uniform choices from fixed material; the same key and context give the same choices.

    Belongs to one call on one thread.
    """

    __slots__ = ("_pool", "_room")

    def __init__(self, key: bytes, context: bytes) -> None:
        self._pool = int.from_bytes(hmac.digest(key, context, hashlib.sha512), "big")
        self._room = 1 << (MATERIAL_BITS - SPARE_BITS)

    def __repr__(self) -> str:
        return f"<TokenStream {self._room.bit_length() - 1} bits left>"

    def below(self, bound: int) -> int:
        """A uniform number ≥ 0 and < ``bound``. ValueError when the material is used up."""
        self._room //= bound
        if self._room == 0:
            raise ValueError("too many tokens from one stream")
        self._pool, choice = divmod(self._pool, bound)
        return choice

    def between(self, least: int, most: int) -> int:
        """A uniform number from ``least`` to ``most``, both included."""
        return least + self.below(most - least + 1)

    def choice(self, options: Sequence[T]) -> T:
        """One of ``options``."""
        return options[self.below(len(options))]

    def word(self, alphabet: str, length: int) -> str:
        """``length`` uniform characters of ``alphabet``."""
        base = len(alphabet)
        value = self.below(base**length)
        letters = []
        for _ in range(length):
            value, index = divmod(value, base)
            letters.append(alphabet[index])
        return "".join(letters)
