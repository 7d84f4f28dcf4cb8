"""``usenetfs config …``: the commands, their arguments and their help."""

from __future__ import annotations

from typing import Annotated

import typer

from usenetfs.cli.arguments import AnyName, Json

config_app = typer.Typer(no_args_is_help=True, help="Settings and where they come from.")


@config_app.command("show")
def config_show(
    ctx: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each comes from.")] = False,
    json: Json = False,
) -> None:
    """Show every setting in force.

    Example: usenetfs config show --origin
    """
    from usenetfs.cli.commands.config import show

    show(ctx.obj, origin=origin, as_json=json)


@config_app.command("set")
def config_set(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Such as upload.rate.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Or none.")],
    name: AnyName = None,
    runtime: Annotated[
        bool, typer.Option("--runtime", help="In the mounted filesystem, until it is unmounted.")
    ] = False,
) -> None:
    """Change a limit of a mounted filesystem at once.

    They are upload.rate, upload.connections, upload.quiet_hours and upload.quiet_rate.

    Example: usenetfs config set --runtime upload.rate 5MB/s
    """
    from usenetfs.cli.commands.config import set_value

    set_value(ctx.obj, key, value, name, runtime=runtime)


@config_app.command("path")
def config_path(ctx: typer.Context, json: Json = False) -> None:
    """Show which configuration files are read, strongest first.

    Example: usenetfs config path
    """
    from usenetfs.cli.commands.config import path

    path(ctx.obj, as_json=json)


@config_app.command("init")
def config_init(
    ctx: typer.Context,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that is there; a copy is kept.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--stdout", help="Print it instead of writing a file.")
    ] = False,
) -> None:
    """Write a configuration file that explains every setting.

    Example: usenetfs config init
    """
    from usenetfs.cli.commands.config import init

    init(ctx.obj, force=force, show=show)
