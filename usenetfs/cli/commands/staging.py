"""``usenetfs staging``: what is not on the servers, into a directory or into the newest state."""

from __future__ import annotations

import socket
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from usenetfs import lock
from usenetfs.cli import passphrase
from usenetfs.cli.context import Common
from usenetfs.cli.output import note, say, say_json
from usenetfs.cli.unfinished import unfinished
from usenetfs.cli.without_mount import run_unlocked, run_without_mount
from usenetfs.config.directories import FilesystemPaths
from usenetfs.errors import PartialTransferError, PathNotFoundError, UsageError

if TYPE_CHECKING:
    from usenetfs.daemon.facade import Facade
    from usenetfs.daemon.parts import Parts
    from usenetfs.daemon.rebase import Placed, Rescued
    from usenetfs.daemon.staging_export import Exported
    from usenetfs.options import DaemonOptions


def export(common: Common, name: str, directory: Path, *, as_json: bool) -> None:
    """Copy the files of ``name`` that have staged content into ``directory``."""
    paths = common.directories.existing(name)
    target = directory.absolute()
    done: list[Exported] = []

    def tell(exported: Exported) -> None:
        done.append(exported)
        if not as_json:
            lacking = f" ({exported.missing} bytes missing)" if exported.missing else ""
            say(f"{exported.path}{lacking}")

    async def work(options: DaemonOptions, parts: Parts, facade: Facade) -> None:
        del options, facade
        from usenetfs.daemon.staging_export import export_staged

        await export_staged(parts, target, tell)

    run_without_mount(common, paths, work, purpose="exporting what is staged")
    if as_json:
        say_json({"directory": str(target), "files": [asdict(exported) for exported in done]})
    else:
        note(f"{len(done)} files are in {target}. What was staged is still here, too.")
    incomplete = [exported.path for exported in done if exported.missing]
    if incomplete:
        raise PartialTransferError(
            f"{len(incomplete)} of {len(done)} files have holes: the servers did not give the rest"
        )


def rebase(common: Common, name: str, source: Path | None, *, as_json: bool) -> None:
    """Put what an older state of ``name`` has alone into the one that is here, and publish it."""
    from usenetfs.article.keys import KeySet
    from usenetfs.cli.unlock import unlock_filesystem, vault_passwords
    from usenetfs.daemon.rebase import shut_out

    paths = common.directories.existing(name)
    older = _older_state(paths, source)
    if older.resolve() == paths.data.resolve():
        raise UsageError(f"{older} is the newest state", hint="name an older one")
    if not (older / paths.index.name).is_file():
        raise UsageError(
            f"{older} holds no filesystem",
            hint="name the directory that recover moved aside: .NAME.replaced-…",
        )
    passphrases = passphrase.obtain(common, prompt=f"Passphrase for {name}", name=name)
    unlocked = unlock_filesystem(paths, passphrases)
    passwords = vault_passwords(common, passphrases)
    exported: list[Exported] = []
    placed: list[Placed] = []

    def tell(one: Placed) -> None:
        placed.append(one)
        if not as_json:
            say(f"{one.path}: {one.action}")

    with unfinished(paths.data.parent, f".{name}.rebase-") as folder:
        # A cache of its own: the two states may know different articles under one number.
        old = FilesystemPaths(name, older, folder / "cache")
        with lock.exclusive(old.lock, name=name, purpose="being rebased"):
            keys = KeySet.from_master(unlocked.master_key, unlocked.filesystem_id)
            shut_out(old.index, keys.directory_key)
        rescued: list[Rescued] = []

        async def rescue_all(options: DaemonOptions, parts: Parts, facade: Facade) -> None:
            del options, facade
            from usenetfs.daemon.rebase import rescue

            rescued.extend(await rescue(parts, folder / "files", exported.append))

        async def place_all(options: DaemonOptions, parts: Parts, facade: Facade) -> None:
            from usenetfs.daemon.rebase import place_rescued

            facade.check_writable()
            limit = options.settings.staging.max_size
            await place_rescued(parts, rescued, socket.gethostname(), limit, tell)
            await facade.sync()

        run_unlocked(common, old, unlocked, passwords, rescue_all, purpose="being rebased")
        run_unlocked(common, paths, unlocked, passwords, place_all, purpose="taking files in")
    if source is None and not exported:
        _tell_of_others(paths, older)
    _tell_result(name, older, exported, placed, as_json=as_json)


def _tell_of_others(paths: FilesystemPaths, newest: Path) -> None:
    """Where nothing was in the newest one, what is missed is in one before: a recovery that was
    interrupted, or overtaken, has left an index that nobody has written to."""
    for other in _set_aside(paths):
        if other != newest:
            note(f"Nothing is only in {newest}. Another older state is in {other}:")
            note(f"usenetfs staging rebase {paths.name} --from {other}")


def _tell_result(
    name: str, older: Path, exported: list[Exported], placed: list[Placed], *, as_json: bool
) -> None:
    incomplete = [each.path for each in exported if each.missing]
    if as_json:
        say_json(
            {
                "from": str(older),
                "files": [asdict(each) for each in placed],
                "incomplete": incomplete,
            }
        )
    else:
        new = sum(each.action != "unchanged" for each in placed)
        note(f"{new} files are in {name} now, and on the servers. {older} is as it was.")
    if incomplete:
        raise PartialTransferError(
            f"{len(incomplete)} files were left out: the servers did not give all of them",
            hint=f"they are still in {older}; try again, or: usenetfs staging export",
        )


def _older_state(paths: FilesystemPaths, source: Path | None) -> Path:
    """The directory named, or the one that was moved aside last."""
    if source is not None:
        return source.absolute()
    aside = _set_aside(paths)
    if not aside:
        raise PathNotFoundError(
            f"no older state of {paths.name} is on this machine",
            hint=f"usenetfs recover {paths.name} keeps it, and takes the filesystem over",
        )
    return aside[-1]


def _set_aside(paths: FilesystemPaths) -> list[Path]:
    """The states that ``recover`` moved aside, oldest first."""
    return sorted(paths.data.parent.glob(f".{paths.name}.replaced-*"))
