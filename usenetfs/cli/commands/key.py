"""``usenetfs key``: the recovery key, and another passphrase."""

from __future__ import annotations

from pathlib import Path

from usenetfs.cli import passphrase
from usenetfs.cli.context import Common
from usenetfs.cli.output import note, say
from usenetfs.cli.unlock import read_key_file, unlock_filesystem
from usenetfs.errors import WrongPassphraseError


def show_recovery(common: Common, name: str) -> None:
    """Print the recovery key."""
    from usenetfs.article.recovery_key import format_recovery_key

    paths = common.directories.existing(name)
    unlocked = unlock_filesystem(paths, passphrase.obtain(common, prompt=f"Passphrase for {name}"))
    say(format_recovery_key(unlocked.master_key))


def change_passphrase(common: Common, name: str, *, new_passphrase_file: Path | None) -> None:
    """Wrap the master key in another passphrase; the vault follows where it had the same one."""
    from usenetfs.article.key_file import change_passphrase as changed
    from usenetfs.config.vault import Vault, replace_file

    paths = common.directories.existing(name)
    content = read_key_file(paths)
    old = passphrase.obtain(common, prompt=f"Present passphrase for {name}").filesystem
    unlock_filesystem(paths, passphrase.Passphrases(old, old))  # before the new one is asked for
    new = passphrase.checked_new(
        passphrase.read_file(new_passphrase_file)
        if new_passphrase_file is not None
        else passphrase.ask_twice(f"New passphrase for {name}")
    )
    key_file = changed(content, old, new)
    vault_path = common.directories.vault
    if vault_path.exists() and common.directories.names() == [name]:
        try:
            vault = Vault.open(vault_path, old)
        except WrongPassphraseError:
            note("usenetfs: the vault has another passphrase, which stays as it is")
        else:
            vault.change_passphrase(new)
            vault.save()
            note("The passphrase of the vault was changed as well.")
    elif vault_path.exists():
        note("usenetfs: the vault keeps its passphrase: other filesystems use it, too")
    replace_file(paths.key_file, key_file)
    note(f"The passphrase of {name} was changed. The recovery key is the same as before.")
