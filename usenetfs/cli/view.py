"""``mount --at`` and ``mount --follow``: what is asked for, and the keys where there are none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from usenetfs.cli.context import Common
from usenetfs.cli.passphrase import Passphrases
from usenetfs.cli.states import parse_point
from usenetfs.config.directories import FilesystemPaths
from usenetfs.config.vault import replace_file
from usenetfs.errors import ConfigurationError, UsageError, WrongPassphraseError
from usenetfs.options import View

FOLLOW: Final = "follow"


@dataclass(frozen=True, slots=True)
class ViewRequest:
    """``at``: as it was typed; None: follow."""

    at: str | None

    @classmethod
    def of(cls, at: str | None, *, follow: bool) -> ViewRequest | None:
        """None for an ordinary mount. UsageError for what cannot be."""
        if at is not None and follow:
            raise UsageError("--at stands still and --follow does not: choose one")
        if at is None and not follow:
            return None
        if at is not None:
            parse_point(at)
        return cls(at)

    @property
    def follows(self) -> bool:
        return self.at is None

    @property
    def view(self) -> View:
        return View(None if self.at is None else parse_point(self.at))

    @property
    def key(self) -> str:
        """What distinguishes it from other views: in names of directories and of the mount."""
        if self.at is None:
            return FOLLOW
        return "at-" + re.sub(r"[^A-Za-z0-9]+", "-", self.at).strip("-")[:40]

    @property
    def arguments(self) -> tuple[str, ...]:
        """For the daemon's process."""
        return ("--follow",) if self.at is None else ("--at", self.at)


def fetch_key_file(common: Common, paths: FilesystemPaths, passphrases: Passphrases) -> None:
    """Get the keys of a filesystem that is not on this machine, to look at it."""
    from usenetfs.article.key_file import unlock
    from usenetfs.cli.unlock import vault_passwords
    from usenetfs.daemon.recovery import Servers, find_by_passphrase, with_servers

    if not common.settings.servers:
        raise ConfigurationError(
            "no server is configured", hint="add one with: usenetfs server add NAME --host HOST"
        )
    secret = passphrases.filesystem

    async def work(servers: Servers) -> bytes:
        return (await find_by_passphrase(servers, paths.name, secret)).key_file

    key_file = with_servers(common.settings, vault_passwords(common, passphrases), work)
    try:
        unlock(key_file, secret)
    except WrongPassphraseError:
        raise WrongPassphraseError(
            f'the passphrase of "{paths.name}" was changed since: this is an older one',
            hint="use the newer one",
        ) from None
    paths.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(paths.key_file, key_file)
