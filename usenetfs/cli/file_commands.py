"""The commands on files in a filesystem: their arguments and their help."""

from __future__ import annotations

from typing import Annotated

import typer

from usenetfs.cli.arguments import Checksum, DryRun, Exclude, Json, JsonEvents


def ls(
    ctx: typer.Context,
    place: Annotated[str, typer.Argument(metavar="NAME:/PATH", help="What to list.")],
    long: Annotated[
        bool, typer.Option("--long", "-l", help="Modes, sizes, times, safety.")
    ] = False,
    json: Json = False,
) -> None:
    """List a directory; works mounted or not.

    Example: usenetfs ls -l photos:/2026
    """
    from usenetfs.cli.commands.ls import run

    run(ctx.obj, place, long=long, as_json=json)


def upload(
    ctx: typer.Context,
    places: Annotated[
        list[str],
        typer.Argument(metavar="SRC… NAME:/PATH", help="What to upload, and into what."),
    ],
    exclude: Exclude = None,
    checksum: Checksum = False,
    dry_run: DryRun = False,
    no_wait: Annotated[
        bool,
        typer.Option(
            "--no-wait", help="End when all is staged here, not when it is on the servers."
        ),
    ] = False,
    json: JsonEvents = False,
) -> None:
    """Upload files and directories; works mounted or not, and goes on where it was interrupted.

    Example: usenetfs upload ~/Pictures photos:/backup
    """
    from usenetfs.cli.commands.upload import run

    run(
        ctx.obj,
        places,
        exclude=list(exclude or ()),
        checksum=checksum,
        dry_run=dry_run,
        wait=not no_wait,
        as_json=json,
    )


def download(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="NAME:/PATH", help="What to download.")],
    target: Annotated[str, typer.Argument(metavar="DEST", help="Into what, on this machine.")],
    exclude: Exclude = None,
    checksum: Checksum = False,
    dry_run: DryRun = False,
    json: JsonEvents = False,
) -> None:
    """Download files and directories; works mounted or not, and goes on where it was interrupted.

    Example: usenetfs download photos:/backup/2026 ~/restored
    """
    from usenetfs.cli.commands.download import run

    run(
        ctx.obj,
        source,
        target,
        exclude=list(exclude or ()),
        checksum=checksum,
        dry_run=dry_run,
        as_json=json,
    )


def rm(
    ctx: typer.Context,
    places: Annotated[list[str], typer.Argument(metavar="NAME:/PATH…", help="What to remove.")],
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Directories, with all that is in them.")
    ] = False,
) -> None:
    """Remove files; works mounted or not.

    Example: usenetfs rm -r photos:/2019
    """
    from usenetfs.cli.commands.rm import remove

    remove(ctx.obj, places, recursive=recursive)


def mv(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="NAME:/OLD")],
    target: Annotated[str, typer.Argument(metavar="NAME:/NEW")],
) -> None:
    """Rename, or move into a directory; works mounted or not.

    Example: usenetfs mv photos:/new photos:/2026
    """
    from usenetfs.cli.commands.rm import move

    move(ctx.obj, source, target)
