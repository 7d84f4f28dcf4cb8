"""Payloads: the same octets whenever the same seed is given, made fast."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from scripts.trees import library_text

CHUNK: Final = 1 << 20


def write_random(path: Path, size: int, *, seed: int = 0) -> None:
    """A file that no compression shrinks and in which no two blocks are equal."""
    with path.open("wb") as file:
        for chunk in _stream(size, seed):
            file.write(chunk)


def _stream(size: int, seed: int) -> Iterator[bytes]:
    """``size`` octets of AES-CTR under a key that is the seed, in chunks."""
    cipher = Cipher(AES(seed.to_bytes(16, "big")), CTR(bytes(16))).encryptor()
    zeros = bytes(CHUNK)
    for start in range(0, size, CHUNK):
        yield cipher.update(zeros[: size - start])


def sha256(path: Path) -> bytes:
    """Of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def write_compressible(path: Path, size: int) -> None:
    """Text that a fast compressor shrinks to about a quarter, no two blocks of it equal.

    The standard library's sources again and again, a number in front of every line so many.
    """
    sources = library_text()
    written = pass_number = 0
    with path.open("wb") as file:
        while written < size:
            for start in range(0, len(sources), 4096):
                piece = b"# %d.%d\n%s" % (pass_number, start, sources[start : start + 4096])
                written += file.write(piece[: size - written])
                if written >= size:
                    break
            pass_number += 1


def write_tar(path: Path, top: Path) -> None:
    """Everything below ``top``, uncompressed, in a fixed order."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for entry in sorted(top.iterdir()):
            archive.add(entry, entry.name)
