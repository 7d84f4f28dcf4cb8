"""The vault: passwords of servers, encrypted on disk.

One JSON file for all filesystems of a user, mode 0600, replaced atomically. The entries are one
Fernet token under Argon2id(master password, salt); server names are inside it too. The master
password is the vault's own, and by default the one typed for the filesystem: it costs an attacker
the same work here as at a key file, or the vault would be the cheaper place to guess it.

Must not know: where the master password comes from, or what the passwords are for.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from cryptography.fernet import Fernet, InvalidToken

from usenetfs.article.passphrase import DEFAULT_COST, Argon2Cost, stretch
from usenetfs.errors import DiskFullError, KeyFileError, LocalStorageError, WrongPassphraseError

FORMAT: Final = "usenetfs vault"
VERSION: Final = 1
_SALT_SIZE: Final = 16
_MAX_SIZE: Final = 4 * 1024 * 1024


@dataclass(slots=True)
class Vault:
    """An unlocked vault. Nothing is written before ``save``."""

    path: Path
    cost: Argon2Cost
    _salt: bytes = field(repr=False)
    _fernet: Fernet = field(repr=False)
    _passwords: dict[str, str] = field(repr=False)

    @classmethod
    def create(cls, path: Path, passphrase: str, *, cost: Argon2Cost = DEFAULT_COST) -> Self:
        """An empty vault that ``save`` will put at ``path``."""
        salt = secrets.token_bytes(_SALT_SIZE)
        return cls(path, cost, salt, _fernet(passphrase, salt, cost), {})

    @classmethod
    def open(cls, path: Path, passphrase: str) -> Self:
        """Unlock the vault at ``path``.

        WrongPassphraseError; KeyFileError when it is not there, damaged, or open to others.
        """
        document = _read(path)
        try:
            cost = Argon2Cost(**{key: document["kdf"][key] for key in _COST_KEYS})
            salt = base64.b64decode(document["kdf"]["salt"], validate=True)
            token = str(document["entries"]).encode("ascii")
            fernet = _fernet(passphrase, salt, cost)
        except (KeyError, TypeError, ValueError) as error:
            raise KeyFileError(f"the vault {path} is damaged: {error}") from None
        try:
            entries = json.loads(fernet.decrypt(token))
        except InvalidToken:
            raise WrongPassphraseError(
                f"this is not the passphrase of the vault {path}",
                hint="the vault keeps the one it was made with: give it with "
                "--vault-passphrase-file",
            ) from None
        return cls(path, cost, salt, fernet, {str(k): str(v) for k, v in entries.items()})

    def passwords(self) -> Mapping[str, str]:
        """A copy of all entries: password by server name."""
        return dict(self._passwords)

    def names(self) -> list[str]:
        return sorted(self._passwords)

    def set(self, server: str, password: str) -> None:
        self._passwords[server] = password

    def remove(self, server: str) -> bool:
        """Whether there was such an entry."""
        return self._passwords.pop(server, None) is not None

    def change_passphrase(self, passphrase: str) -> None:
        """From the next ``save`` on; with a new salt."""
        self._salt = secrets.token_bytes(_SALT_SIZE)
        self._fernet = _fernet(passphrase, self._salt, self.cost)

    def save(self) -> None:
        """Write the file anew and put it in place of the old one; it survives power loss."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "kdf": {
                "algorithm": "argon2id",
                **{key: getattr(self.cost, key) for key in _COST_KEYS},
                "salt": base64.b64encode(self._salt).decode("ascii"),
            },
            "entries": self._fernet.encrypt(json.dumps(self._passwords).encode()).decode("ascii"),
        }
        replace_file(self.path, json.dumps(document, indent=2).encode() + b"\n")


_COST_KEYS: Final = ("memory_kib", "iterations", "lanes")


def replace_file(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``, mode 0600, so that a crash leaves either the old or the new.

    Makes the parent directory (0700) where it is missing. DiskFullError or LocalStorageError.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp makes the file 0600 from the start.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise translated(error, f"cannot write {path}") from error


def translated(error: OSError, doing: str) -> LocalStorageError:
    """The typed error for a failure of the local disk while ``doing``."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFullError(f"{doing}: {error.strerror}")
    return LocalStorageError(f"{doing}: {error.strerror}")


def _fernet(passphrase: str, salt: bytes, cost: Argon2Cost) -> Fernet:
    if not passphrase:
        raise WrongPassphraseError("the passphrase is empty")
    return Fernet(base64.urlsafe_b64encode(stretch(passphrase, salt, cost)))


def _read(path: Path) -> dict[str, Any]:
    try:
        mode = path.stat().st_mode & 0o777
        content = path.read_bytes()
    except FileNotFoundError:
        raise KeyFileError(
            f"there is no vault at {path}", hint="store a password with: usenetfs server add"
        ) from None
    except OSError as error:
        raise KeyFileError(f"cannot read the vault {path}: {error.strerror}") from None
    if mode & 0o077:
        raise KeyFileError(
            f"the vault {path} is open to other users (mode {mode:04o})",
            hint=f"close it: chmod 600 {path}",
        )
    try:
        document = json.loads(content[:_MAX_SIZE])
    except (ValueError, RecursionError):
        raise KeyFileError(
            f"the vault {path} is damaged: not JSON",
            hint="restore it from a copy, or delete it and store the passwords again",
        ) from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise KeyFileError(f"{path} is not a vault of usenetfs")
    if document.get("version") != VERSION:
        raise KeyFileError(
            f"the vault {path} has version {document.get('version')!r}, which is not known",
            hint="it was written by a newer version: upgrade usenetfs",
        )
    return document
