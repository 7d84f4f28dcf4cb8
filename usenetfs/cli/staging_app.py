"""``usenetfs staging``: what is only on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usenetfs.cli.arguments import Json, Name

staging_app = typer.Typer(no_args_is_help=True, help="What is only on this machine.")


@staging_app.command("export")
def staging_export(
    ctx: typer.Context,
    name: Name,
    directory: Annotated[Path, typer.Argument(help="A new or empty directory.")],
    json: Json = False,
) -> None:
    """Copy every file with data that is not on the servers yet into a directory.

    For when another machine has taken the filesystem over. Changes nothing; unmount it first
    (umount --lazy). Example: usenetfs staging export photos /tmp/photos-rescued
    """
    from usenetfs.cli.commands.staging import export

    export(ctx.obj, name, directory, as_json=json)
