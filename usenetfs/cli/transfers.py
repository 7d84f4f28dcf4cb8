"""Running an upload or download: by the daemon of a mount, or in this process without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usenetfs.cli.context import Common
from usenetfs.cli.transfer_view import TransferView
from usenetfs.config.directories import FilesystemPaths
from usenetfs.control.client import ControlClient
from usenetfs.control.requests import DownloadRequest, UploadRequest
from usenetfs.errors import NotMountedError

if TYPE_CHECKING:
    from usenetfs.daemon.facade import Facade
    from usenetfs.daemon.parts import Parts
    from usenetfs.options import DaemonOptions


def transfer(
    common: Common,
    paths: FilesystemPaths,
    call: str,
    request: UploadRequest | DownloadRequest,
    view: TransferView,
) -> None:
    """Do it and show it; PartialTransferError when something was left out."""
    client = ControlClient(paths.control_socket, name=paths.name)
    with view:
        try:
            for event in client.events(call, request):
                view.show(event)
        except NotMountedError:
            _here(common, paths, request, view)
    view.finish()


def _here(
    common: Common,
    paths: FilesystemPaths,
    request: UploadRequest | DownloadRequest,
    view: TransferView,
) -> None:
    from usenetfs.cli.without_mount import run_without_mount

    async def work(options: DaemonOptions, parts: Parts, facade: Facade) -> None:
        from usenetfs.daemon.downloads import prepare_download
        from usenetfs.daemon.uploads import prepare_upload

        if isinstance(request, UploadRequest):
            facade.check_writable()
            job = await prepare_upload(parts, options.settings, request, facade.sync)
        else:
            job = await prepare_download(parts, options.paths, request)
        try:
            await job(view.show)
        finally:
            parts.files.save()

    what = "an upload" if isinstance(request, UploadRequest) else "a download"
    run_without_mount(common, paths, work, purpose=what)
