"""Doing in this process what a daemon would do: for commands on a filesystem that is not mounted.

Holds the filesystem's lock, opens all of its parts, and serves the control API meanwhile, so that
``usenetfs status`` shows what goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from usenetfs import lock
from usenetfs.cli import passphrase
from usenetfs.cli.context import Common
from usenetfs.config.directories import FilesystemPaths
from usenetfs.errors import ConfigurationError
from usenetfs.options import DaemonOptions

if TYPE_CHECKING:
    from usenetfs.cli.unlock import Unlocked
    from usenetfs.daemon.facade import Facade
    from usenetfs.daemon.parts import Parts

Work = Callable[[DaemonOptions, "Parts", "Facade"], Awaitable[None]]


def run_without_mount(common: Common, paths: FilesystemPaths, work: Work, *, purpose: str) -> None:
    """``purpose``: what others are told who want the filesystem meanwhile."""
    from usenetfs.cli.unlock import unlock_filesystem, vault_passwords

    if not common.settings.servers:
        raise ConfigurationError(
            "no server is configured", hint="add one with: usenetfs server add NAME --host HOST"
        )
    passphrases = passphrase.obtain(common, prompt=f"Passphrase for {paths.name}", name=paths.name)
    with lock.exclusive(paths.lock, name=paths.name, purpose=purpose):
        unlocked = unlock_filesystem(paths, passphrases)
        passwords = vault_passwords(common, passphrases)
        secrets = (passphrases.filesystem, passphrases.vault)
        _run(common, paths, unlocked, passwords, work, secrets)


def run_unlocked(
    common: Common,
    paths: FilesystemPaths,
    unlocked: Unlocked,
    passwords: Mapping[str, str],
    work: Work,
    *,
    purpose: str,
) -> None:
    """The same for who has the keys already."""
    with lock.exclusive(paths.lock, name=paths.name, purpose=purpose):
        _run(common, paths, unlocked, passwords, work, ())


def _run(
    common: Common,
    paths: FilesystemPaths,
    unlocked: Unlocked,
    passwords: Mapping[str, str],
    work: Work,
    secrets: tuple[str, ...],
) -> None:
    from usenetfs import logs

    options = DaemonOptions(
        name=paths.name,
        paths=paths,
        directories=common.directories,
        settings=common.settings,
        filesystem_id=unlocked.filesystem_id,
        master_key=unlocked.master_key,
        passwords=passwords,
        mountpoint=None,
        ready=lambda: None,
        foreground=True,
    )
    with logs.running(
        paths.logs,
        common.settings.log,
        verbosity=common.verbosity,
        secrets=(*options.secrets, *secrets),
    ):
        from usenetfs.daemon.run import run_with_parts

        run_with_parts(options, work)
