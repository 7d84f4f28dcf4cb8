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


@staging_app.command("rebase")
def staging_rebase(
    ctx: typer.Context,
    name: Name,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="The older state; the one moved aside last, if not given."),
    ] = None,
    json: Json = False,
) -> None:
    """Put files that only an older state has into the newest one, and publish them.

    For when another machine had taken the filesystem over: unmount it, take it back with
    usenetfs recover, which keeps the older state, and run this. A file whose name is taken becomes
    a copy beside it, "name (conflict HOST DATE).ext"; nothing is overwritten.
    Example: usenetfs recover photos && usenetfs staging rebase photos
    """
    from usenetfs.cli.commands.staging import rebase

    rebase(ctx.obj, name, source, as_json=json)
