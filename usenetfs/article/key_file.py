"""The key file: the master key under a passphrase.

A JSON document, so that a person can see what it is; not secret in the sense that reading it gives
nothing without the passphrase. The master key is sealed with AES-256-GCM under
Argon2id(passphrase), and everything else in the file (version, filesystem id, name, costs) is the
associated data: none of it can be changed unnoticed. A checksum tells a damaged file from a wrong
passphrase; a check value lets a typed recovery key (``recovery_key``) be recognised as this
filesystem's.

Must not know: where the file lies.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from usenetfs.article.keys import (
    FILESYSTEM_ID_SIZE,
    MASTER_KEY_SIZE,
    check_filesystem_id,
    check_master_key,
    derive_key,
)
from usenetfs.article.passphrase import DEFAULT_COST, Argon2Cost, stretch
from usenetfs.article.recovery_key import parse_recovery_key
from usenetfs.errors import KeyFileError, RecoveryKeyError, WrongPassphraseError

FORMAT: Final = "usenetfs key file"
VERSION: Final = 1
MAX_SIZE: Final = 16_384
"""Bytes; a longer file is none of ours."""

_SALT_SIZE: Final = 16
_NONCE_SIZE: Final = 12
_WRAPPED_SIZE: Final = MASTER_KEY_SIZE + 16
_CHECK_SIZE: Final = 16


@dataclass(frozen=True, slots=True)
class KeyFileInfo:
    """What the file says to everybody."""

    filesystem_id: bytes
    name: str
    cost: Argon2Cost


@dataclass(frozen=True, slots=True)
class _Parsed:
    info: KeyFileInfo
    salt: bytes
    nonce: bytes
    wrapped: bytes
    check: bytes


def create_key_file(
    master: bytes,
    passphrase: str,
    *,
    filesystem_id: bytes,
    name: str,
    cost: Argon2Cost = DEFAULT_COST,
) -> bytes:
    """A key file for ``master``. Salt and nonce are new, so no two files are alike."""
    check_master_key(master)
    check_filesystem_id(filesystem_id)
    return _assemble(
        master,
        passphrase,
        info=KeyFileInfo(filesystem_id, name, cost),
        salt=secrets.token_bytes(_SALT_SIZE),
        nonce=secrets.token_bytes(_NONCE_SIZE),
    )


def read_info(key_file: bytes) -> KeyFileInfo:
    """The public part. KeyFileError where the file is damaged; not authenticated."""
    return _parse(key_file).info


def unlock(key_file: bytes, passphrase: str) -> bytes:
    """The master key. WrongPassphraseError, or KeyFileError where the file is damaged."""
    parsed = _parse(key_file)
    if not passphrase:
        raise WrongPassphraseError("the passphrase is empty")
    key = stretch(passphrase, parsed.salt, parsed.info.cost)
    try:
        master = AESGCM(key).decrypt(parsed.nonce, parsed.wrapped, _associated(parsed))
    except InvalidTag:
        raise WrongPassphraseError(f"this is not the passphrase of {parsed.info.name!r}") from None
    return master


def unlock_with_recovery_key(key_file: bytes, recovery_key: str) -> bytes:
    """The master key from a typed recovery key, checked to be the one of this filesystem.

    RecoveryKeyError where it is mistyped or another filesystem's.
    """
    parsed = _parse(key_file)
    master = parse_recovery_key(recovery_key)
    if not hmac.compare_digest(parsed.check, _check_value(master, parsed.info.filesystem_id)):
        raise RecoveryKeyError(
            f"this is the recovery key of another filesystem than {parsed.info.name!r}"
        )
    return master


def change_passphrase(
    key_file: bytes, passphrase: str, new_passphrase: str, *, cost: Argon2Cost | None = None
) -> bytes:
    """A new key file for the same master key; the old one still opens with the old passphrase.

    :param cost: of the new file; by default the old file's.
    """
    info = read_info(key_file)
    return create_key_file(
        unlock(key_file, passphrase),
        new_passphrase,
        filesystem_id=info.filesystem_id,
        name=info.name,
        cost=info.cost if cost is None else cost,
    )


def _assemble(
    master: bytes, passphrase: str, *, info: KeyFileInfo, salt: bytes, nonce: bytes
) -> bytes:
    check = _check_value(master, info.filesystem_id)
    unwrapped = _Parsed(info, salt, nonce, b"", check)
    key = stretch(passphrase, salt, info.cost)
    wrapped = AESGCM(key).encrypt(nonce, master, _associated(unwrapped))
    document: dict[str, Any] = _public(unwrapped)
    document["wrapped_key"] = {"nonce": _text(nonce), "ciphertext": _text(wrapped)}
    document["checksum"] = _checksum(document)
    return json.dumps(document, indent=2, ensure_ascii=True).encode("ascii") + b"\n"


def _public(parsed: _Parsed) -> dict[str, Any]:
    """The part of the document that is authenticated with the master key."""
    cost = parsed.info.cost
    return {
        "format": FORMAT,
        "version": VERSION,
        "filesystem_id": parsed.info.filesystem_id.hex(),
        "name": parsed.info.name,
        "kdf": {
            "algorithm": "argon2id",
            "memory_kib": cost.memory_kib,
            "iterations": cost.iterations,
            "lanes": cost.lanes,
            "salt": _text(parsed.salt),
        },
        "check": _text(parsed.check),
    }


def _associated(parsed: _Parsed) -> bytes:
    return _canonical(_public(parsed))


def _canonical(document: dict[str, Any]) -> bytes:
    """JSON with sorted keys, no white space, ASCII only."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


def _checksum(document: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(document)).hexdigest()[:32]


def _check_value(master: bytes, filesystem_id: bytes) -> bytes:
    return derive_key(master, "key check", salt=filesystem_id, size=_CHECK_SIZE)


def _parse(key_file: bytes) -> _Parsed:
    if len(key_file) > MAX_SIZE:
        raise KeyFileError("the key file is damaged: far too long")
    try:
        document = json.loads(key_file)
    except (ValueError, RecursionError):
        raise KeyFileError("the key file is damaged: not JSON") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise KeyFileError("this is not a key file of usenetfs")
    if document.get("version") != VERSION:
        raise KeyFileError(
            f"the key file has version {document.get('version')!r}, which is not known",
            hint="it was written by a newer version: upgrade usenetfs",
        )
    checksum = document.pop("checksum", None)
    if checksum != _checksum(document):
        raise KeyFileError(
            "the key file is damaged: its checksum does not match",
            hint="restore it from a copy, or run: usenetfs recover",
        )
    try:
        return _interpreted(document)
    except (KeyError, TypeError, ValueError) as error:
        raise KeyFileError(f"the key file is damaged: {error}") from None


def _interpreted(document: dict[str, Any]) -> _Parsed:
    kdf, wrapped = document["kdf"], document["wrapped_key"]
    if kdf["algorithm"] != "argon2id":
        raise ValueError("the key derivation is not known")
    cost = Argon2Cost(*(_integer(kdf[key]) for key in ("memory_kib", "iterations", "lanes")))
    name = document["name"]
    if not isinstance(name, str):
        raise TypeError("the name is no text")
    filesystem_id = bytes.fromhex(document["filesystem_id"])
    if len(filesystem_id) != FILESYSTEM_ID_SIZE:
        raise ValueError("the filesystem id has the wrong size")
    return _Parsed(
        info=KeyFileInfo(filesystem_id, name, cost),
        salt=_bytes(kdf["salt"], _SALT_SIZE),
        nonce=_bytes(wrapped["nonce"], _NONCE_SIZE),
        wrapped=_bytes(wrapped["ciphertext"], _WRAPPED_SIZE),
        check=_bytes(document["check"], _CHECK_SIZE),
    )


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a cost is no whole number")
    return value


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: object, size: int) -> bytes:
    if not isinstance(text, str):
        raise TypeError("binary data is no text")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("binary data is no base64") from None
    if len(data) != size:
        raise ValueError("binary data has the wrong size")
    return data
