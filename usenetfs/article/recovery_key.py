"""The recovery key: the master key in a form a person can write down and type.

Thirteen groups of five characters of Crockford's base 32 (digits and capital letters without I, L,
O and U), joined by dashes. Four characters of a group are data, the fifth checks the group *and its
position*: any one wrong character, two neighbours exchanged, and two groups exchanged are all
found, and the error names the group. The 52 data characters are 260 bits: the key's 256 and 4 bits
of a checksum over the whole.

Reading ignores case, dashes and white space, and takes O for 0 and I or L for 1.

Must not know: what the key opens.
"""

from __future__ import annotations

import hashlib
from typing import Final

from usenetfs.article.keys import MASTER_KEY_SIZE, check_master_key
from usenetfs.errors import RecoveryKeyError

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
GROUPS: Final = 13
GROUP_LENGTH: Final = 5

_DATA_LENGTH: Final = GROUP_LENGTH - 1
_VALUES: Final = {letter: value for value, letter in enumerate(ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_IGNORED: Final = str.maketrans("", "", "- \t\r\n\u2010\u2011\u2012\u2013\u2014\u2212\u00a0")
_CHECKSUM_BITS: Final = 4
_FIELD_POLYNOMIAL: Final = 0b100101
"""x⁵ + x² + 1, which makes the 32 values a field."""


def format_recovery_key(master: bytes) -> str:
    """The recovery key of a master key (32 bytes): 77 characters, secret."""
    check_master_key(master)
    number = int.from_bytes(master, "big") << _CHECKSUM_BITS | _checksum(master)
    count = GROUPS * _DATA_LENGTH
    values = [number >> 5 * (count - 1 - position) & 31 for position in range(count)]
    groups = []
    for index in range(GROUPS):
        data = values[index * _DATA_LENGTH : (index + 1) * _DATA_LENGTH]
        groups.append("".join(ALPHABET[value] for value in (*data, _check_value(index, data))))
    return "-".join(groups)


def parse_recovery_key(text: str) -> bytes:
    """The master key that ``text`` stands for. RecoveryKeyError says which group is mistyped."""
    letters = text.upper().translate(_IGNORED)
    wrong = sorted({letter for letter in letters if letter not in _VALUES})
    if wrong:
        raise RecoveryKeyError(
            f"a recovery key has no {', '.join(map(repr, wrong))}",
            hint="it consists of digits and letters, without I, L, O and U",
        )
    if len(letters) != GROUPS * GROUP_LENGTH:
        raise RecoveryKeyError(
            f"the recovery key has {len(letters)} characters instead of {GROUPS * GROUP_LENGTH}",
            hint=f"it consists of {GROUPS} groups of {GROUP_LENGTH} characters",
        )
    values = [_VALUES[letter] for letter in letters]
    number = 0
    mistyped = []
    for index in range(GROUPS):
        *data, check = values[index * GROUP_LENGTH : (index + 1) * GROUP_LENGTH]
        if check != _check_value(index, data):
            mistyped.append(index + 1)
        for value in data:
            number = number << 5 | value
    if mistyped:
        raise RecoveryKeyError(
            f"mistyped in group {', '.join(map(str, mistyped))} of the recovery key",
            hint="compare these groups with what you wrote down",
        )
    master = (number >> _CHECKSUM_BITS).to_bytes(MASTER_KEY_SIZE, "big")
    if number & ((1 << _CHECKSUM_BITS) - 1) != _checksum(master):
        raise RecoveryKeyError(
            "the checksum of the recovery key does not match",
            hint="several characters are wrong: compare all groups with what you wrote down",
        )
    return master


def _checksum(master: bytes) -> int:
    return hashlib.sha256(b"usenetfs/1 recovery key" + master).digest()[0] >> 8 - _CHECKSUM_BITS


def _check_value(index: int, data: list[int]) -> int:
    """A polynomial over GF(32) in the position and the values, at a generator of the field.

    Every term has another non-zero weight, so changing one value, or exchanging two, changes the
    sum.
    """
    total = index + 1
    for value in data:
        total = _times_generator(total) ^ value
    return _times_generator(total)


def _times_generator(value: int) -> int:
    value <<= 1
    return value ^ _FIELD_POLYNOMIAL if value & 32 else value
