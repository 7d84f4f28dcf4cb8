"""``usenetfs upload SRC… NAME:/PATH``: by the daemon of a mount, or here without one."""

from __future__ import annotations

import os

from usenetfs.cli.context import Common
from usenetfs.cli.places import parse_place
from usenetfs.cli.transfer_view import TransferView
from usenetfs.cli.transfers import transfer
from usenetfs.control.requests import UploadRequest
from usenetfs.errors import UsageError


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
    transfer(
        common, paths, "/v1/upload", request, TransferView("uploading", "uploaded", as_json=as_json)
    )


def _absolute(source: str) -> str:
    """The source from the root, its slash at the end kept: that has a meaning."""
    if not source:
        raise UsageError("the name of a source is empty")
    return os.path.join(os.getcwd(), source)  # noqa: PTH109, PTH118  pathlib drops the slash
