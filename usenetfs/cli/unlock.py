"""Opening what is locked: the key file of a filesystem and the vault.

Errors name the file concerned. Argon2 makes each unlocking take most of a second, on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from usenetfs.article.key_file import read_info, unlock
from usenetfs.cli.context import Common
from usenetfs.cli.passphrase import Passphrases
from usenetfs.config.directories import FilesystemPaths
from usenetfs.errors import KeyFileError


@dataclass(frozen=True, slots=True)
class Unlocked:
    """A filesystem's identity and master key."""

    filesystem_id: bytes
    master_key: bytes = field(repr=False)


def read_key_file(paths: FilesystemPaths) -> bytes:
    """The key file's content; KeyFileError when it cannot be had."""
    try:
        return paths.key_file.read_bytes()
    except FileNotFoundError:
        raise KeyFileError(
            f"the key file {paths.key_file} is missing",
            hint="restore it from a copy; without it the data can only be had back with the "
            "recovery key",
        ) from None
    except OSError as error:
        raise KeyFileError(f"cannot read {paths.key_file}: {error.strerror}") from None


def unlock_filesystem(paths: FilesystemPaths, passphrases: Passphrases) -> Unlocked:
    """The master key of a filesystem; WrongPassphraseError or KeyFileError."""
    content = read_key_file(paths)
    return Unlocked(read_info(content).filesystem_id, unlock(content, passphrases.filesystem))


def vault_passwords(common: Common, passphrases: Passphrases) -> Mapping[str, str]:
    """The servers' passwords; empty, without asking the vault, when no server needs one."""
    if not any(server.username for server in common.settings.servers):
        return {}
    from usenetfs.config.vault import Vault

    return Vault.open(common.directories.vault, passphrases.vault).passwords()
