"""``usenetfs init``: make a filesystem."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from usenetfs.cli import passphrase
from usenetfs.cli.context import Common
from usenetfs.cli.output import note, say, say_json
from usenetfs.cli.unfinished import unfinished
from usenetfs.config.directories import FilesystemPaths
from usenetfs.config.units import parse_size
from usenetfs.config.vault import replace_file, translated
from usenetfs.errors import ConfigurationError, FilesystemExistsError, UsageError

if TYPE_CHECKING:
    from usenetfs.article.passphrase import Argon2Cost
    from usenetfs.daemon.facade import Facade
    from usenetfs.daemon.parts import Parts
    from usenetfs.options import DaemonOptions

PAGE = 4096
MIN_BLOCK, MAX_BLOCK = 4 * PAGE, 900 * 1024
"""Octets. The upper bound keeps an encoded block below INN's limit of 1,000,000 per article."""


def run(
    common: Common, name: str, *, offline: bool, block_size: str, shards: int, as_json: bool
) -> None:
    """Make the filesystem ``name`` and print its recovery key."""
    from usenetfs.article.passphrase import Argon2Cost

    paths = common.directories.filesystem(name)
    if paths.exists():
        raise FilesystemExistsError(
            f'there is a filesystem "{name}" already, in {paths.data}',
            hint=f"mount it: usenetfs mount {name} MOUNTPOINT; or choose another name",
        )
    octets = _block_size(block_size)
    settings = common.settings
    if not offline and not settings.posting.groups:
        raise ConfigurationError(
            "no newsgroup is configured to post to",
            hint='add to the configuration: [posting] groups = ["alt.binaries.test"]',
        )
    cost = Argon2Cost.of(settings.keys.memory, settings.keys.iterations)
    chosen = passphrase.obtain_new(common, prompt=f"New passphrase for {name}")
    if offline:
        recovery_key = create(paths, chosen, block_size=octets, cost=cost, shards=shards)
    else:
        from usenetfs.cli.server_check import check_servers
        from usenetfs.cli.unlock import vault_passwords

        passwords = vault_passwords(common, passphrase.with_vault(common, chosen))
        check_servers(settings, passwords)
        recovery_key = create(paths, chosen, block_size=octets, cost=cost, shards=shards)
        try:
            publish(common, paths, chosen, recovery_key, passwords)
        except BaseException:
            shutil.rmtree(paths.data, ignore_errors=True)  # there is nothing in it yet
            raise
    if as_json:
        say_json({"name": name, "path": str(paths.data), "recovery_key": recovery_key})
        return
    note(f'Filesystem "{name}" made in {paths.data}.')
    note("")
    note("Recovery key. Write it down and keep it apart from this machine: with it and a server")
    note("account everything can be had back, and whoever has it can read everything.")
    note("")
    say(f"  {recovery_key}")
    note("")
    if offline:
        note(f"Before it can be recovered: usenetfs key publish {name}, with a server at hand.")
    note(f"Next: usenetfs mount {name} MOUNTPOINT")


def create(
    paths: FilesystemPaths,
    chosen: str,
    *,
    block_size: int,
    cost: Argon2Cost,
    shards: int = 1,
) -> str:
    """Make keys and index at ``paths``, all or nothing; returns the recovery key.

    ``cost`` is what a guess at the passphrase costs; ``shards``, files that the index is spread
    over.
    """
    from usenetfs.article.key_file import create_key_file
    from usenetfs.article.keys import KeySet, generate_master_key
    from usenetfs.article.recovery_key import format_recovery_key
    from usenetfs.index.index import Index

    master = generate_master_key()
    filesystem_id = secrets.token_bytes(16)
    keys = KeySet.from_master(master, filesystem_id)
    key_file = create_key_file(
        master, chosen, filesystem_id=filesystem_id, name=paths.name, cost=cost
    )
    with new_directory(paths.data) as directory:
        making = FilesystemPaths(paths.name, directory, paths.cache)
        replace_file(making.key_file, key_file)
        Index.create(
            making.index,
            filesystem_id=filesystem_id,
            name=paths.name,
            block_size=block_size,
            directory_key=keys.directory_key,
            now_ns=time.time_ns(),
            shards=shards,
        ).close()
        making.staging.mkdir(mode=0o700)
        making.logs.mkdir(mode=0o700)
    return format_recovery_key(master)


def publish(
    common: Common,
    paths: FilesystemPaths,
    chosen: str,
    recovery_key: str,
    passwords: Mapping[str, str],
) -> None:
    """Post what a new machine begins with: key records, and checkpoint 0."""
    from usenetfs.article.key_file import read_info
    from usenetfs.article.recovery_key import parse_recovery_key
    from usenetfs.cli.unlock import Unlocked, read_key_file
    from usenetfs.cli.without_mount import run_unlocked
    from usenetfs.daemon.key_records import publish_key_file
    from usenetfs.daemon.recovery import Servers, with_servers

    key_file = read_key_file(paths)
    master = parse_recovery_key(recovery_key)

    async def post_keys(servers: Servers) -> None:
        await publish_key_file(servers, key_file, master, name=paths.name, passphrases=[chosen])

    async def post_checkpoint(options: DaemonOptions, parts: Parts, facade: Facade) -> None:
        await facade.sync()

    with_servers(common.settings, passwords, post_keys)
    unlocked = Unlocked(read_info(key_file).filesystem_id, master)
    run_unlocked(common, paths, unlocked, passwords, post_checkpoint, purpose="being made")


def _block_size(text: str) -> int:
    try:
        octets = parse_size(text)
    except ValueError as error:
        raise UsageError(f"--block-size: {error}") from None
    if octets % PAGE or not MIN_BLOCK <= octets <= MAX_BLOCK:
        raise UsageError(
            f"--block-size: {octets} is not possible",
            hint=f"a multiple of {PAGE}, from {MIN_BLOCK} to {MAX_BLOCK}",
        )
    return octets


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory that becomes ``path`` when the block ends well, and vanishes when not."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with unfinished(path.parent, f".{path.name}.") as making:
            yield making
            _flush(making)
            making.rename(path)
            _flush(path.parent)
    except OSError as error:
        raise translated(error, f"cannot make {path}") from error


def _flush(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
