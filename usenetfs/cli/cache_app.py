"""``usenetfs cache …``: the commands, their arguments and their help."""

from __future__ import annotations

from typing import Annotated

import typer

from usenetfs.cli.arguments import AnyName, Json

cache_app = typer.Typer(
    no_args_is_help=True,
    help="What was fetched and can be fetched again.",
    epilog="To keep a file or directory in it: setfattr -n user.usenetfs.pin -v 1 PATH",
)


@cache_app.command("stat")
def cache_stat(ctx: typer.Context, name: AnyName = None, json: Json = False) -> None:
    """Show what the cache holds.

    Example: usenetfs cache stat photos
    """
    from usenetfs.cli.commands.cache import stat

    stat(ctx.obj, name, as_json=json)


@cache_app.command("drop")
def cache_drop(
    ctx: typer.Context,
    place: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME[:/PATH]]",
            help="The filesystem (may be left out when there is one), or a file or tree in it.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Empty the cache, or a part of it. Nothing is lost: what is read again is fetched again.

    Example: usenetfs cache drop photos:/2019
    """
    from usenetfs.cli.commands.cache import drop

    drop(ctx.obj, place, as_json=json)


@cache_app.command("warm")
def cache_warm(
    ctx: typer.Context,
    place: Annotated[
        str, typer.Argument(metavar="NAME[:/PATH]", help="The filesystem, or a file or tree in it.")
    ],
    json: Json = False,
) -> None:
    """Fetch into the cache what is missing of a file or tree; the filesystem must be mounted.

    Example: usenetfs cache warm photos:/2026
    """
    from usenetfs.cli.commands.cache import warm

    warm(ctx.obj, place, as_json=json)
