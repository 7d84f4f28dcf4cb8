"""``usenetfs status``: where everything stands, from the daemon or, unmounted, from the index."""

from __future__ import annotations

from usenetfs.cli.context import Common
from usenetfs.cli.output import console, say_json
from usenetfs.config.directories import VIEW_MARK, FilesystemPaths
from usenetfs.control.client import ControlClient
from usenetfs.control.model import StatusReport
from usenetfs.errors import NotMountedError, UsageError


def run(common: Common, name: str | None, *, as_json: bool, watch: bool) -> None:
    """Show the status of the filesystem ``name``."""
    directories = common.directories
    if name is not None and VIEW_MARK in name:
        paths = directories.mounted(name)
    else:
        paths = directories.existing(name) if name else directories.only()
    if watch:
        if as_json:
            raise UsageError("--watch is for people and --json is for programs; give one of them")
        from usenetfs.cli.watch import watch_status

        watch_status(lambda: read_status(paths))
        return
    report = read_status(paths)
    if as_json:
        say_json(report.to_json())
        return
    from usenetfs.cli.status_view import render

    console().print(render(report))


def read_status(paths: FilesystemPaths) -> StatusReport:
    """From the daemon; without one, from the index alone."""
    try:
        return ControlClient(paths.control_socket, name=paths.name).status()
    except NotMountedError:
        from usenetfs.cli.offline import status_from_index

        return status_from_index(paths)
