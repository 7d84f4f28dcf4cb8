"""From a passphrase to a key: Argon2id (RFC 9106) with its costs stated beside what it protects.

Must not know: what the key is for.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MAX_MEMORY_KIB: Final = 4 << 20
MAX_ITERATIONS: Final = 64
MAX_LANES: Final = 64
LANES: Final = 4


@dataclass(frozen=True, slots=True)
class Argon2Cost:
    """What one guess costs. ValueError outside Argon2's limits, or ours against absurd files."""

    memory_kib: int
    iterations: int
    lanes: int

    def __post_init__(self) -> None:
        if not 1 <= self.lanes <= MAX_LANES:
            raise ValueError(f"Argon2 takes 1 to {MAX_LANES} lanes")
        if not 8 * self.lanes <= self.memory_kib <= MAX_MEMORY_KIB:
            raise ValueError(f"Argon2 takes {8 * self.lanes} to {MAX_MEMORY_KIB} KiB of memory")
        if not 1 <= self.iterations <= MAX_ITERATIONS:
            raise ValueError(f"Argon2 takes 1 to {MAX_ITERATIONS} iterations")

    @classmethod
    def of(cls, memory: int, iterations: int) -> Self:
        """From what is configured: ``memory`` in octets, on the usual number of lanes."""
        return cls(memory >> 10, iterations, LANES)


DEFAULT_COST: Final = Argon2Cost(memory_kib=256 << 10, iterations=3, lanes=LANES)
"""About 0.8 s on two cores; four times the memory that RFC 9106 §4 recommends at the least."""

MINIMUM_COST: Final = Argon2Cost(memory_kib=8, iterations=1, lanes=1)
"""For tests alone: protects nothing."""


def normalized(passphrase: str) -> bytes:
    """UTF-8 of the passphrase in NFC (RFC 8265 §4.2), so that another keyboard types the same."""
    if not passphrase:
        raise ValueError("the passphrase is empty")
    return unicodedata.normalize("NFC", passphrase).encode("utf-8")


def stretch(passphrase: str, salt: bytes, cost: Argon2Cost, size: int = 32) -> bytes:
    """Argon2id (version 1.3) of the passphrase: ``size`` bytes, after a time that is meant to hurt.

    :param salt: 16 bytes or more. Releases the GIL; takes ``cost.memory_kib`` of memory.
    """
    return Argon2id(
        salt=salt,
        length=size,
        iterations=cost.iterations,
        lanes=cost.lanes,
        memory_cost=cost.memory_kib,
    ).derive(normalized(passphrase))
