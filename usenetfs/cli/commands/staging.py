"""``usenetfs staging export``: what is not on the servers, into a directory."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from usenetfs.cli.context import Common
from usenetfs.cli.output import note, say, say_json
from usenetfs.cli.without_mount import run_without_mount
from usenetfs.errors import PartialTransferError

if TYPE_CHECKING:
    from usenetfs.daemon.facade import Facade
    from usenetfs.daemon.parts import Parts
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
