"""Passphrases in the desktop's keyring, for who chose so (``[keys] keyring = true``).

The library is an optional extra, and is loaded only for who did: it looks for services on the
session bus. What it keeps is as safe as the login of the desktop. A keyring that does not answer
is no reason to fail while there is somebody to ask: reading says so and gives nothing.
"""

from __future__ import annotations

from types import ModuleType
from typing import Final

from usenetfs.cli.context import Common
from usenetfs.cli.output import note
from usenetfs.errors import ConfigurationError, KeyFileError

SERVICE: Final = "usenetfs"
VAULT: Final = "@vault"
"""The vault's account; no filesystem can be called so."""

INSTALL: Final = "install it: pipx inject usenetfs keyring; or set [keys] keyring = false"


def recall(common: Common, account: str) -> str | None:
    """The passphrase of a filesystem or of :data:`VAULT`; None where none is kept."""
    if not common.settings.keys.keyring:
        return None
    keyring = _library()
    try:
        found: str | None = keyring.get_password(SERVICE, account)
    except keyring.errors.KeyringError as error:
        note(f"usenetfs: warning: the keyring gives nothing: {error}")
        return None
    return found


def remember(account: str, passphrase: str) -> None:
    """Keep it from now on. KeyFileError when the keyring refuses."""
    keyring = _library()
    try:
        keyring.set_password(SERVICE, account, passphrase)
    except keyring.errors.KeyringError as error:
        raise KeyFileError(
            f"the keyring does not take the passphrase: {error}",
            hint="unlock it, or use a passphrase file: --passphrase-file FILE",
        ) from None


def forget(account: str) -> bool:
    """Whether there was one."""
    keyring = _library()
    try:
        if keyring.get_password(SERVICE, account) is None:
            return False
        keyring.delete_password(SERVICE, account)
    except keyring.errors.KeyringError as error:
        raise KeyFileError(f"the keyring cannot be used: {error}") from None
    return True


def _library() -> ModuleType:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        raise ConfigurationError("the package keyring is not installed", hint=INSTALL) from None
    return keyring
