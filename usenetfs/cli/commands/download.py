"""``usenetfs download NAME:/PATH DEST``: by the daemon of a mount, or here without one."""

from __future__ import annotations

import os

from usenetfs.cli.context import Common
from usenetfs.cli.places import parse_place
from usenetfs.cli.transfer_view import TransferView
from usenetfs.cli.transfers import transfer
from usenetfs.control.requests import DownloadRequest


def run(
    common: Common,
    source: str,
    target: str,
    *,
    exclude: list[str],
    checksum: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """``source`` in the filesystem to the local ``target``."""
    place = parse_place(source)
    paths = common.directories.existing(place.name)
    request = DownloadRequest(
        source=place.path or "/",
        target=os.path.join(os.getcwd(), target),  # noqa: PTH109, PTH118  pathlib drops the slash
        exclude=tuple(exclude),
        checksum=checksum,
        dry_run=dry_run,
        listing=common.verbosity > 0,
    )
    view = TransferView("downloading", "downloaded", as_json=as_json)
    transfer(common, paths, "/v1/download", request, view)
