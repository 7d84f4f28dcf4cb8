"""``usenetfs upload SRC… NAME:/PATH``: by the daemon of a mount, or here without one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from usenetfs.cli.context import Common
from usenetfs.cli.places import parse_place
from usenetfs.cli.transfer_view import TransferView
from usenetfs.config.directories import FilesystemPaths
from usenetfs.control.client import ControlClient
from usenetfs.control.model import UploadRequest
from usenetfs.errors import NotMountedError, UsageError

if TYPE_CHECKING:
    from usenetfs.daemon.facade import Facade
    from usenetfs.daemon.parts import Parts
    from usenetfs.options import DaemonOptions


def run(
    common: Common,
    places: list[str],
    *,
    exclude: list[str],
    checksum: bool,
    dry_run: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """All but the last of ``places`` go into the last."""
    *sources, target = places
    if not sources:
        raise UsageError("say what to upload and where to", hint="usenetfs upload SRC… NAME:/PATH")
    place = parse_place(target)
    paths = common.directories.existing(place.name)
    request = UploadRequest(
        sources=tuple(_absolute(source) for source in sources),
        target=place.path,
        exclude=tuple(exclude),
        checksum=checksum,
        dry_run=dry_run,
        wait=wait,
        listing=common.verbosity > 0,
    )
    client = ControlClient(paths.control_socket, name=paths.name)
    with TransferView("uploading", "uploaded", as_json=as_json) as view:
        try:
            for event in client.events("/v1/upload", request):
                view.show(event)
        except NotMountedError:
            _here(common, paths, request, view)
    view.finish()


def _here(
    common: Common, paths: FilesystemPaths, request: UploadRequest, view: TransferView
) -> None:
    from usenetfs.cli.without_mount import run_without_mount

    async def work(options: DaemonOptions, parts: Parts, facade: Facade) -> None:
        from usenetfs.daemon.uploads import prepare_upload

        job = await prepare_upload(parts, options.settings, request, facade.sync)
        try:
            await job(view.show)
        finally:
            parts.files.save()

    run_without_mount(common, paths, work, purpose="an upload")


def _absolute(source: str) -> str:
    """The source from the root, its slash at the end kept: that has a meaning."""
    if not source:
        raise UsageError("the name of a source is empty")
    return os.path.join(os.getcwd(), source)  # noqa: PTH109, PTH118  pathlib drops the slash
