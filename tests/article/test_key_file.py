"""The key file opens with its passphrase only, and tells damage from a wrong passphrase."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from tests.article.examples import FILESYSTEM_ID, MASTER
from usenetfs.article.key_file import (
    KeyFileInfo,
    change_passphrase,
    create_key_file,
    read_info,
    unlock,
    unlock_with_recovery_key,
)
from usenetfs.article.passphrase import DEFAULT_COST, MINIMUM_COST, Argon2Cost, stretch
from usenetfs.article.recovery_key import format_recovery_key
from usenetfs.errors import KeyFileError, RecoveryKeyError, WrongPassphraseError

PASSPHRASE = "correct horse"
FILE = create_key_file(
    MASTER, PASSPHRASE, filesystem_id=FILESYSTEM_ID, name="häuser", cost=MINIMUM_COST
)


def resealed(document: dict[str, Any]) -> bytes:
    """The document with a checksum that matches, as an attacker would write it."""
    document = {key: value for key, value in document.items() if key != "checksum"}
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    document["checksum"] = hashlib.sha256(canonical).hexdigest()[:32]
    return json.dumps(document).encode()


def test_unlock() -> None:
    assert unlock(FILE, PASSPHRASE) == MASTER
    assert read_info(FILE) == KeyFileInfo(FILESYSTEM_ID, "häuser", MINIMUM_COST)


def test_the_file_holds_neither_key_nor_passphrase() -> None:
    text = FILE.decode("ascii")
    assert PASSPHRASE not in text
    for form in (MASTER.hex(), base64.b64encode(MASTER).decode(), format_recovery_key(MASTER)):
        assert form not in text


def test_no_two_files_are_alike() -> None:
    other = create_key_file(
        MASTER, PASSPHRASE, filesystem_id=FILESYSTEM_ID, name="häuser", cost=MINIMUM_COST
    )
    ours, theirs = json.loads(FILE), json.loads(other)
    assert ours["kdf"]["salt"] != theirs["kdf"]["salt"]
    assert ours["wrapped_key"]["nonce"] != theirs["wrapped_key"]["nonce"]


@pytest.mark.parametrize("wrong", ["", "Correct horse", "correct horse ", "x" * 5000])
def test_a_wrong_passphrase_is_a_clear_error(wrong: str) -> None:
    with pytest.raises(WrongPassphraseError) as caught:
        unlock(FILE, wrong)
    assert not wrong or wrong not in str(caught.value)


def test_equivalent_ways_to_type_a_letter_are_one_passphrase() -> None:
    composed, decomposed = "\u00e9t\u00e9", "e\u0301te\u0301"
    file = create_key_file(
        MASTER, composed, filesystem_id=FILESYSTEM_ID, name="n", cost=MINIMUM_COST
    )
    assert unlock(file, decomposed) == MASTER


def test_recovery_key() -> None:
    assert unlock_with_recovery_key(FILE, format_recovery_key(MASTER).lower()) == MASTER
    with pytest.raises(RecoveryKeyError, match="another filesystem"):
        unlock_with_recovery_key(FILE, format_recovery_key(bytes(32)))
    with pytest.raises(RecoveryKeyError, match="mistyped"):
        unlock_with_recovery_key(FILE, "1" + format_recovery_key(bytes(32))[1:])


def test_change_passphrase() -> None:
    cost = Argon2Cost(memory_kib=16, iterations=2, lanes=2)
    changed = change_passphrase(FILE, PASSPHRASE, "battery staple", cost=cost)
    assert unlock(changed, "battery staple") == MASTER
    assert read_info(changed) == KeyFileInfo(FILESYSTEM_ID, "häuser", cost)
    assert read_info(change_passphrase(FILE, PASSPHRASE, "x")).cost == MINIMUM_COST
    with pytest.raises(WrongPassphraseError):
        unlock(changed, PASSPHRASE)
    with pytest.raises(WrongPassphraseError):
        change_passphrase(FILE, "wrong", "x")
    with pytest.raises(ValueError, match="empty"):
        change_passphrase(FILE, PASSPHRASE, "")


def test_every_damaged_byte_is_found() -> None:
    for position in range(len(FILE)):
        damaged = bytearray(FILE)
        damaged[position] ^= 1
        try:
            opened = unlock(bytes(damaged), PASSPHRASE)
        except KeyFileError:
            continue
        # White space between the fields carries nothing.
        assert opened == MASTER
        assert FILE[position : position + 1].isspace()


@pytest.mark.parametrize("length", [0, 1, 100, len(FILE) - 3])
def test_a_cut_file_is_damaged(length: int) -> None:
    with pytest.raises(KeyFileError):
        unlock(FILE[:length], PASSPHRASE)


@pytest.mark.parametrize(
    "junk",
    [b"[]", b"null", b'{"format": "other"}', b"[" * 16_000, b"\xff\xfe", b" " * 20_000],
)
def test_other_files_are_no_key_files(junk: bytes) -> None:
    with pytest.raises(KeyFileError):
        read_info(junk)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 2),
        (("version",), "1"),
        (("filesystem_id",), "00"),
        (("filesystem_id",), "zz" * 16),
        (("filesystem_id",), 5),
        (("name",), None),
        (("kdf",), []),
        (("kdf", "algorithm"), "none"),
        (("kdf", "memory_kib"), 1 << 40),
        (("kdf", "memory_kib"), True),
        (("kdf", "memory_kib"), 7),
        (("kdf", "iterations"), 0),
        (("kdf", "iterations"), 10**6),
        (("kdf", "lanes"), 0),
        (("kdf", "lanes"), 1.5),
        (("kdf", "salt"), "AAAA"),
        (("kdf", "salt"), "not base64"),
        (("wrapped_key", "nonce"), 7),
        (("wrapped_key", "ciphertext"), ""),
        (("check",), None),
    ],
)
def test_fields_are_checked_even_with_a_right_checksum(
    path: tuple[str, ...], value: object
) -> None:
    document = json.loads(FILE)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(KeyFileError):
        unlock(resealed(document), PASSPHRASE)
    del inner[path[-1]]
    with pytest.raises(KeyFileError):
        unlock(resealed(document), PASSPHRASE)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "other"),
        ("filesystem_id", "00" * 16),
        ("check", base64.b64encode(bytes(16)).decode()),
    ],
)
def test_public_fields_are_authenticated(field: str, value: str) -> None:
    document = json.loads(FILE)
    document[field] = value
    with pytest.raises(WrongPassphraseError):
        unlock(resealed(document), PASSPHRASE)


def test_argon2id_is_the_known_function() -> None:
    # A vector of the reference implementation (t = 2, m = 256 KiB, p = 1).
    derived = stretch("password", b"somesalt", Argon2Cost(memory_kib=256, iterations=2, lanes=1))
    assert derived.hex() == "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"


def test_the_default_cost_is_what_rfc_9106_asks_at_least() -> None:
    assert DEFAULT_COST.memory_kib >= 64 << 10
    assert DEFAULT_COST.iterations >= 3
    assert DEFAULT_COST.lanes == 4


@pytest.mark.parametrize(("memory_kib", "iterations", "lanes"), [(7, 1, 1), (8, 0, 1), (8, 1, 2)])
def test_costs_are_checked(memory_kib: int, iterations: int, lanes: int) -> None:
    with pytest.raises(ValueError, match="Argon2"):
        Argon2Cost(memory_kib, iterations, lanes)
