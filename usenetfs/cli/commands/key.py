"""``usenetfs key``: the recovery key, and another passphrase."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from usenetfs.cli import passphrase, remembered
from usenetfs.cli.context import Common
from usenetfs.cli.output import note, say, say_json
from usenetfs.cli.unlock import read_key_file, unlock_filesystem
from usenetfs.errors import WrongPassphraseError


def show_recovery(common: Common, name: str, *, as_json: bool) -> None:
    """Print the recovery key."""
    from usenetfs.article.recovery_key import format_recovery_key

    paths = common.directories.existing(name)
    unlocked = unlock_filesystem(paths, passphrase.obtain(common, prompt=f"Passphrase for {name}"))
    recovery_key = format_recovery_key(unlocked.master_key)
    if as_json:
        say_json({"name": name, "recovery_key": recovery_key})
    else:
        say(recovery_key)


def change_passphrase(
    common: Common, name: str, *, new_passphrase_file: Path | None, offline: bool
) -> None:
    """Wrap the master key in another passphrase, here and in a new key record on the servers.

    The vault follows where it had the same passphrase. The record is posted first: a passphrase
    that opens only what is here would be missed on the next machine.
    """
    from usenetfs.article.key_file import change_passphrase as changed
    from usenetfs.article.passphrase import Argon2Cost
    from usenetfs.cli.unlock import vault_passwords
    from usenetfs.config.vault import replace_file

    wanted = common.settings.keys

    paths = common.directories.existing(name)
    content = read_key_file(paths)
    passphrases = passphrase.obtain(common, prompt=f"Present passphrase for {name}")
    old = passphrases.filesystem
    unlocked = unlock_filesystem(paths, passphrases)  # before the new one is asked for
    new = passphrase.checked_new(
        passphrase.read_file(new_passphrase_file)
        if new_passphrase_file is not None
        else passphrase.ask_twice(f"New passphrase for {name}")
    )
    key_file = changed(content, old, new, cost=Argon2Cost.of(wanted.memory, wanted.iterations))
    if not offline:
        passwords = vault_passwords(common, passphrases)
        _publish(common, key_file, unlocked.master_key, name, [new, old], passwords)
    _change_vault(common, name, old, new)
    replace_file(paths.key_file, key_file)
    if wanted.keyring and remembered.recall(common, name) is not None:
        remembered.remember(name, new)
    note(f"The passphrase of {name} was changed. The recovery key is the same as before.")
    if offline:
        note("On the servers the old one counts until this is done again without --offline.")
        return
    note("The record of the old passphrase stays on the servers where it was posted: who knows")
    note("the old one can still read everything. If it is known to somebody else, move the data")
    note("to a new filesystem.")


def publish(common: Common, name: str) -> None:
    """Post the key records anew: after init --offline, or before they expire."""
    from usenetfs.cli.unlock import vault_passwords

    paths = common.directories.existing(name)
    content = read_key_file(paths)
    passphrases = passphrase.obtain(common, prompt=f"Passphrase for {name}", name=name)
    unlocked = unlock_filesystem(paths, passphrases)
    passwords = vault_passwords(common, passphrases)
    _publish(common, content, unlocked.master_key, name, [passphrases.filesystem], passwords)
    note(f"The keys of {name} can be had back with the passphrase or the recovery key.")


def _publish(
    common: Common,
    key_file: bytes,
    master: bytes,
    name: str,
    passphrases: list[str],
    passwords: Mapping[str, str],
) -> None:
    from usenetfs.daemon.key_records import publish_key_file
    from usenetfs.daemon.recovery import Servers, with_servers

    async def work(servers: Servers) -> None:
        await publish_key_file(servers, key_file, master, name=name, passphrases=passphrases)

    with_servers(common.settings, passwords, work)


def _change_vault(common: Common, name: str, old: str, new: str) -> None:
    """Where the vault had the same passphrase and no other filesystem uses it, it follows."""
    from usenetfs.config.vault import Vault

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


def remember(common: Common, name: str) -> None:
    """Put the passphrases of ``name`` and of the vault into the keyring, once they are checked."""
    from usenetfs.config.vault import Vault

    paths = common.directories.existing(name)
    passphrases = passphrase.obtain(common, prompt=f"Passphrase for {name}", name=name)
    unlock_filesystem(paths, passphrases)
    remembered.remember(name, passphrases.filesystem)
    note(f"The passphrase of {name} is in the keyring.")
    if common.directories.vault.exists():
        Vault.open(common.directories.vault, passphrases.vault)
        remembered.remember(remembered.VAULT, passphrases.vault)
        note("That of the vault, too.")
    if not common.settings.keys.keyring:
        note("It is looked for there once the configuration has: [keys] keyring = true")


def forget(common: Common, name: str) -> None:
    """Take the passphrase of ``name`` out of the keyring, and the vault's with the last one."""
    found = remembered.forget(name)
    others = [other for other in common.directories.names() if other != name]
    if not others:
        found |= remembered.forget(remembered.VAULT)
    note(f"Taken out of the keyring: {name}" if found else f"The keyring has nothing of {name}.")
