"""Running an upload, download or verification: by the daemon of a mount, or here without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from usenetfs.cli.context import Common
from usenetfs.cli.transfer_view import TransferView
from usenetfs.config.directories import FilesystemPaths
from usenetfs.control.client import ControlClient
from usenetfs.control.requests import DownloadRequest, UploadRequest, VerifyRequest
from usenetfs.errors import NotMountedError

Request = UploadRequest | DownloadRequest | VerifyRequest

if TYPE_CHECKING:
    from usenetfs.daemon.facade import Facade
    from usenetfs.daemon.parts import Parts
    from usenetfs.options import DaemonOptions


def transfer(
    common: Common,
    paths: FilesystemPaths,
    call: str,
    request: Request,
    view: TransferView,
) -> None:
    """Do it and show it; what ``view`` raises at the end when something is wrong."""
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
    request: Request,
    view: TransferView,
) -> None:
    from usenetfs.cli.without_mount import run_without_mount

    async def work(options: DaemonOptions, parts: Parts, facade: Facade) -> None:
        from usenetfs.daemon.downloads import prepare_download
        from usenetfs.daemon.uploads import prepare_upload

        if isinstance(request, UploadRequest):
            facade.check_writable()
            job = await prepare_upload(parts, options.settings, request, facade.sync)
        elif isinstance(request, DownloadRequest):
            job = await prepare_download(parts, options.paths, request)
        else:
            job = await facade.verifications.prepare(request)
        try:
            await job(view.show)
        finally:
            parts.files.save()

    run_without_mount(common, paths, work, purpose=_PURPOSE[type(request)])


_PURPOSE: Final[dict[type[Request], str]] = {
    UploadRequest: "an upload",
    DownloadRequest: "a download",
    VerifyRequest: "a verification",
}
