"""``usenetfs rm`` and ``usenetfs mv``: by the daemon of a mount, or here without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usenetfs.cli.context import Common
from usenetfs.cli.output import note
from usenetfs.cli.places import parse_place
from usenetfs.control.client import ControlClient
from usenetfs.errors import NotMountedError, UsageError

if TYPE_CHECKING:
    from usenetfs.daemon.facade import Facade
    from usenetfs.daemon.parts import Parts
    from usenetfs.options import DaemonOptions


def remove(common: Common, places: list[str], *, recursive: bool) -> None:
    """Take files, or with ``recursive`` trees, away."""
    parsed = [parse_place(place) for place in places]
    name = _one_name({place.name for place in parsed})
    paths = common.directories.existing(name)
    targets = [place.path for place in parsed]
    removed = 0
    try:
        client = ControlClient(paths.control_socket, name=name)
        removed = client.remove(targets, recursive=recursive)
    except NotMountedError:
        from usenetfs.cli.without_mount import run_without_mount

        async def work(options: DaemonOptions, parts: Parts, facade: Facade) -> None:
            nonlocal removed
            removed = (await facade.remove(targets, recursive=recursive)).removed

        run_without_mount(common, paths, work, purpose="a removal")
    note(f"{removed:,} {'name was' if removed == 1 else 'names were'} removed.")


def move(common: Common, source: str, target: str) -> None:
    """Rename within one filesystem."""
    old, new = parse_place(source), parse_place(target)
    name = _one_name({old.name, new.name})
    paths = common.directories.existing(name)
    try:
        ControlClient(paths.control_socket, name=name).move(old.path, new.path)
    except NotMountedError:
        from usenetfs.cli.without_mount import run_without_mount

        async def work(options: DaemonOptions, parts: Parts, facade: Facade) -> None:
            await facade.move(old.path, new.path)

        run_without_mount(common, paths, work, purpose="a move")


def _one_name(names: set[str]) -> str:
    if len(names) != 1:
        raise UsageError("all places must be in one filesystem")
    (name,) = names
    return name
