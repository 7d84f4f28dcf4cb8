"""``usenetfs recover``: a filesystem on a new machine, from the servers alone.

Everything is built beside the place it belongs to and moved there when it is complete; what was
there before is moved aside, never deleted. Then the filesystem is taken over: a checkpoint of a new
epoch, after which the machine that wrote before turns read-only.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from usenetfs import lock
from usenetfs.cli import passphrase
from usenetfs.cli.commands.init import new_directory
from usenetfs.cli.context import Common
from usenetfs.cli.output import note, say_json
from usenetfs.cli.passphrase import Passphrases
from usenetfs.cli.progress import Line
from usenetfs.cli.states import describe_record
from usenetfs.config.directories import FilesystemPaths
from usenetfs.config.units import human_size
from usenetfs.config.vault import replace_file
from usenetfs.errors import (
    ConfigurationError,
    FencedError,
    RecoveryKeyError,
    UsageError,
    UsenetfsError,
    WrongPassphraseError,
)

if TYPE_CHECKING:
    from usenetfs.article.keys import KeySet
    from usenetfs.article.passphrase import Argon2Cost
    from usenetfs.checkpoint.record import Record
    from usenetfs.checkpoint.replay import Progress
    from usenetfs.daemon.facade import Facade
    from usenetfs.daemon.parts import Parts
    from usenetfs.daemon.recovery import FoundState, Servers
    from usenetfs.options import DaemonOptions


TRIES: Final = 5
"""How often the newest state is taken before a writer that publishes meanwhile wins."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What a record and a secret gave. ``fresh``: the key file is new and not on servers yet."""

    filesystem_id: bytes
    master: bytes = field(repr=False)
    key_file: bytes = field(repr=False)
    fresh: bool


def run(
    common: Common,
    name: str,
    *,
    recovery_key: bool,
    recovery_key_file: Path | None,
    yes: bool,
    shards: int,
    as_json: bool,
) -> None:
    """Recover ``name`` and take it over."""
    from usenetfs.article.passphrase import Argon2Cost
    from usenetfs.cli.unlock import vault_passwords

    if not common.settings.servers:
        raise ConfigurationError(
            "no server is configured", hint="add one with: usenetfs server add NAME --host HOST"
        )
    paths = common.directories.filesystem(name)
    typed = _recovery_key(recovery_key_file) if recovery_key or recovery_key_file else None
    if typed is None:
        passphrases = passphrase.obtain(common, prompt=f"Passphrase for {name}", name=name)
    else:
        chosen = passphrase.obtain_new(common, prompt=f"New passphrase for {name}")
        passphrases = passphrase.with_vault(common, chosen)
    passwords = vault_passwords(common, passphrases)
    cost = Argon2Cost.of(common.settings.keys.memory, common.settings.keys.iterations)
    recovery = Recovery(paths, passphrases, typed, cost=cost, yes=yes, shards=shards)
    record, number = _until_taken_over(common, paths, recovery, passwords)
    if as_json:
        say_json(
            {
                "name": name,
                "checkpoint": record.number,
                "time": record.time,
                "files": record.counters.files,
                "directories": record.counters.directories,
                "bytes": record.counters.bytes,
                "newest": recovery.newest,
                "lost": recovery.losses,
                "taken_over_at": number,
            }
        )
        return
    note(f'"{name}" is here again, as it was at checkpoint {record.number}, and taken over.')
    note(f"Next: usenetfs mount {name} MOUNTPOINT")


def _until_taken_over(
    common: Common, paths: FilesystemPaths, recovery: Recovery, passwords: Mapping[str, str]
) -> tuple[Record, int]:
    """The record of the state that is here then, and the checkpoint that took over."""
    from usenetfs.daemon.recovery import with_servers

    tries = 0
    while True:
        with _locked(paths):
            record = with_servers(common.settings, passwords, recovery.run)
        try:
            return record, _take_over(common, paths, recovery, passwords)
        except FencedError as error:
            tries += 1
            if tries == TRIES:
                raise FencedError(
                    error.message,
                    hint="another machine goes on writing: unmount it there, and try again",
                ) from error
        note("Another machine has published a newer state meanwhile: that one is taken.")
        recovery.overtaken()


def _recovery_key(file: Path | None) -> str:
    if file is not None:
        return passphrase.read_file(file)
    return passphrase.ask("Recovery key")


@contextlib.contextmanager
def _locked(paths: FilesystemPaths) -> Iterator[None]:
    """Nobody uses what is here already, while it is replaced."""
    if not paths.data.is_dir():
        yield
        return
    with lock.exclusive(paths.lock, name=paths.name, purpose="being recovered"):
        yield


class Recovery:
    """One run: find, ask, build, put into place."""

    def __init__(
        self,
        paths: FilesystemPaths,
        passphrases: Passphrases,
        recovery_key: str | None,
        *,
        cost: Argon2Cost,
        yes: bool,
        shards: int,
    ) -> None:
        self._paths = paths
        self._passphrases = passphrases
        self._recovery_key = recovery_key
        self._cost = cost
        self._yes = yes
        self._shards = shards
        self.keys: Keys | None = None
        self.newest = -1
        self.losses: list[str] = []
        self._overtaken = False

    def overtaken(self) -> None:
        """What was put into place has not taken over. Whoever runs this again is not asked again,
        and nothing is kept of it, for nobody has written to it."""
        self._overtaken = self._yes = True

    async def run(self, servers: Servers) -> Record:
        """The record of the state that is in place when this returns."""
        from usenetfs.article.keys import KeySet
        from usenetfs.daemon.recovery import find_state

        self.keys = keys = self.keys or await self._find_keys(servers)
        key_set = KeySet.from_master(keys.master, keys.filesystem_id)
        found = await find_state(servers, key_set, keys.filesystem_id)
        self.newest = found.newest
        for line in describe_found(self._paths.name, found):
            note(line)
        self._compare_with_what_is_here(found)
        await self._ask(replacing=self._paths.exists() and not self._overtaken)
        aside: Path | None = None
        try:
            with new_directory(self._paths.data) as directory:
                making = FilesystemPaths(self._paths.name, directory, self._paths.cache)
                record = await self._build(found, making, keys, key_set)
                aside = move_aside(self._paths)
        except BaseException:
            if aside is not None and not self._paths.data.exists():
                aside.rename(self._paths.data)
            raise
        if aside is not None and self._overtaken:
            await trio.to_thread.run_sync(shutil.rmtree, aside)
        elif aside is not None:
            note(f"What was here before is in {aside}.")
            # A writer that was shut out gave numbers to articles that others have in the chain.
            await trio.to_thread.run_sync(drop_cache, self._paths)
        if keys.fresh:
            await self._publish_keys(servers, keys)
            self.keys = replace(keys, fresh=False)
        return record

    async def _build(
        self, found: FoundState, making: FilesystemPaths, keys: Keys, key_set: KeySet
    ) -> Record:
        """Everything that belongs into the data directory, in ``making``."""
        from usenetfs.daemon.recovery import build_index, prepare_takeover

        with Line() as progress:
            record = await build_index(
                found,
                making.index,
                writable=True,
                report=_shown_on(progress),
                shards=self._shards,
            )
        self.losses = found.reader.losses.lines()
        if record.number != found.record.number:
            note(f"That state is incomplete on the servers: {'; '.join(self.losses)}")
            note("What can be had is older:")
            for text in describe_record(record):
                note(f"  {text}")
            await self._ask(replacing=False)
        replace_file(making.key_file, keys.key_file)
        await prepare_takeover(found, record, making.index, directory_key=key_set.directory_key)
        making.staging.mkdir(mode=0o700)
        making.logs.mkdir(mode=0o700)
        return record

    # --- keys

    async def _find_keys(self, servers: Servers) -> Keys:
        from usenetfs.article.key_file import create_key_file, read_info, unlock
        from usenetfs.article.key_file import unlock_with_recovery_key as open_with
        from usenetfs.article.recovery_key import parse_recovery_key
        from usenetfs.daemon.recovery import find_by_master, find_by_passphrase

        name = self._paths.name
        if self._recovery_key is None:
            secret = self._passphrases.filesystem
            record = await find_by_passphrase(servers, name, secret)
            info = read_info(record.key_file)
            try:
                master = await trio.to_thread.run_sync(unlock, record.key_file, secret)
            except WrongPassphraseError:
                raise WrongPassphraseError(
                    f'the passphrase of "{name}" was changed since: this is an older one',
                    hint="use the newer one, or: usenetfs recover --recovery-key",
                ) from None
            return Keys(info.filesystem_id, master, record.key_file, fresh=False)
        record = await find_by_master(servers, parse_recovery_key(self._recovery_key))
        info = read_info(record.key_file)
        if info.name != name:
            raise RecoveryKeyError(
                f'this is the recovery key of "{info.name}"',
                hint=f"usenetfs recover {info.name} --recovery-key",
            )
        master = open_with(record.key_file, self._recovery_key)
        key_file = await trio.to_thread.run_sync(
            lambda: create_key_file(
                master,
                self._passphrases.filesystem,
                filesystem_id=info.filesystem_id,
                name=name,
                cost=self._cost,
            )
        )
        return Keys(info.filesystem_id, master, key_file, fresh=True)

    async def _publish_keys(self, servers: Servers, keys: Keys) -> None:
        """The new passphrase is to open the filesystem on the next machine as well."""
        from usenetfs.daemon.key_records import publish_key_file

        try:
            await publish_key_file(
                servers,
                keys.key_file,
                keys.master,
                name=self._paths.name,
                passphrases=[self._passphrases.filesystem],
            )
        except UsenetfsError as error:
            note(f"usenetfs: warning: the new passphrase is known here only: {error.message}")
            note(f"hint: try again with: usenetfs key change-passphrase {self._paths.name}")

    # --- questions

    def _compare_with_what_is_here(self, found: FoundState) -> None:
        """Servers can hide what is newest; an index that is here may know better."""
        from usenetfs.index.replica import followed_state

        if not self._paths.index.is_file():
            return
        here = followed_state(self._paths.index)
        if here is not None and here.number > found.newest:
            note(
                f"  The index on this machine has seen checkpoint {here.number}: the servers have "
                "lost it, or hide it."
            )

    async def _ask(self, *, replacing: bool) -> None:
        if replacing:
            note("")
            note(f"On this machine there is a {self._paths.name} already, in {self._paths.data}.")
            note("It is moved aside, with what it has not uploaded yet.")
        if self._yes:
            return
        if not sys.stdin.isatty():
            raise UsageError(
                "recovering takes the filesystem over, and there is no terminal to ask on",
                hint="give --yes",
            )
        note("Whoever else has it mounted for writing turns read-only.")
        answer = await trio.to_thread.run_sync(
            input, "Recover it here? [y/N] ", abandon_on_cancel=True
        )
        if answer.strip().lower() not in {"y", "yes"}:
            raise UsageError("not recovered", hint="nothing was changed")


def describe_found(name: str, found: FoundState) -> list[str]:
    """What there is, for the question."""
    record = found.record
    lines = [f'"{name}" is found:', *(f"  {line}" for line in describe_record(record))]
    if found.newest != record.number:
        lines.append(
            f"  Checkpoint {found.newest} is there and cannot be read; this is the newest state "
            "that can."
        )
        lines += [f"    {line}" for line in found.reader.losses.lines()[-5:]]
    elif found.posted_after:
        lines.append(
            "  Data was posted after this checkpoint: a newer one was lost, or was never published."
        )
        lines.append("  What was written later is not in this state.")
    return lines


def _shown_on(line: Line) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        if progress.total:
            done = f"{human_size(progress.done)} of {human_size(progress.total)}"
            line.show(f"{progress.stage}: {done}")
        else:
            line.show(progress.stage)

    return show


def move_aside(paths: FilesystemPaths) -> Path | None:
    """Make room at ``paths.data``; where that went, or None if nothing was there."""
    if not paths.data.exists():
        return None
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    aside = paths.data.with_name(f".{paths.name}.replaced-{stamp}-{secrets.token_hex(2)}")
    paths.data.rename(aside)
    return aside


def drop_cache(paths: FilesystemPaths) -> None:
    """What the filesystem that was here has cached is not cached for the one that is here now."""
    shutil.rmtree(paths.cache, ignore_errors=True)


def _take_over(
    common: Common, paths: FilesystemPaths, recovery: Recovery, passwords: Mapping[str, str]
) -> int:
    """Publish the first checkpoint of the new epoch; its number."""
    from usenetfs.cli.unlock import Unlocked
    from usenetfs.cli.without_mount import run_unlocked

    keys = recovery.keys
    assert keys is not None
    numbers: list[int] = []

    async def work(options: DaemonOptions, parts: Parts, facade: Facade) -> None:
        await facade.sync()
        numbers.append(parts.publisher.state.number)

    unlocked = Unlocked(keys.filesystem_id, keys.master)
    run_unlocked(common, paths, unlocked, passwords, work, purpose="being taken over")
    return numbers[0]
