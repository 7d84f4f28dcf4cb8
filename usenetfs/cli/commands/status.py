"""``usenetfs status``: where everything stands, from the daemon or, unmounted, from the index."""

from __future__ import annotations

from usenetfs.cli.context import Common
from usenetfs.cli.output import console, say, say_json
from usenetfs.config.directories import VIEW_MARK, FilesystemPaths
from usenetfs.control.client import ControlClient
from usenetfs.control.model import HistoryReport, StatusReport
from usenetfs.errors import ControlError, NotMountedError, UsageError


def run(common: Common, name: str | None, *, as_json: bool, watch: bool, link: bool) -> None:
    """Show the status of the filesystem ``name``, or the link of its web page."""
    directories = common.directories
    if name is not None and VIEW_MARK in name:
        paths = directories.mounted(name)
    else:
        paths = directories.existing(name) if name else directories.only()
    if link:
        say(page_link(paths))
        return
    if watch:
        if as_json:
            raise UsageError("--watch is for people and --json is for programs; give one of them")
        from usenetfs.cli.watch import watch_status

        watch_status(lambda: read_status(paths), lambda: read_past(paths))
        return
    report = read_status(paths)
    if as_json:
        say_json(report.to_json())
        return
    from usenetfs.cli.status_view import render

    console().print(render(report))


def page_link(paths: FilesystemPaths) -> str:
    """The address of the web page, with the token where browsers do not send it."""
    address = ControlClient(paths.control_socket, name=paths.name).status().web
    if address is None:
        raise ControlError(
            f'no web page is served for "{paths.name}"',
            hint='set in the configuration: [control] listen = "127.0.0.1:8119"; mount again',
        )
    try:
        token = paths.token.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ControlError(f"cannot read {paths.token}: {error.strerror}") from error
    return f"{address}#token={token}"


def read_past(paths: FilesystemPaths) -> HistoryReport:
    """The last minutes, as far as a daemon knows them."""
    try:
        return ControlClient(paths.control_socket, name=paths.name).history()
    except (ControlError, NotMountedError):
        return HistoryReport()


def read_status(paths: FilesystemPaths) -> StatusReport:
    """From the daemon; without one, from the index alone."""
    try:
        return ControlClient(paths.control_socket, name=paths.name).status()
    except NotMountedError:
        from usenetfs.cli.offline import status_from_index

        return status_from_index(paths)
