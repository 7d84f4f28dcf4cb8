"""``usenetfs service …``: the commands, their arguments and their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usenetfs.cli.arguments import Name

service_app = typer.Typer(
    no_args_is_help=True,
    help="Mounting by systemd.",
    epilog="Options such as --config and --passphrase-file become part of the unit.",
)

MountPoint = Annotated[Path, typer.Argument(help="An empty directory.")]
System = Annotated[
    bool,
    typer.Option("--system/--user", help="For the machine, or for you while you are logged in."),
]
Options = Annotated[
    list[str] | None,
    typer.Option("--options", "-o", metavar="OPT,…", help="As for mount."),
]


@service_app.command("show")
def service_show(
    ctx: typer.Context,
    name: Name,
    mountpoint: MountPoint,
    system: System = False,
    options: Options = None,
) -> None:
    """Print a systemd unit that keeps a filesystem mounted.

    Example: usenetfs service show photos ~/photos --passphrase-file ~/.photos-passphrase
    """
    from usenetfs.cli.commands.service import show

    show(ctx.obj, name, mountpoint, system=system, options=list(options or ()))


@service_app.command("install")
def service_install(
    ctx: typer.Context,
    name: Name,
    mountpoint: MountPoint,
    system: System = False,
    options: Options = None,
) -> None:
    """Put that unit where systemd finds it; says how to start it.

    Example: usenetfs service install photos ~/photos --passphrase-file ~/.photos-passphrase
    """
    from usenetfs.cli.commands.service import install

    install(ctx.obj, name, mountpoint, system=system, options=list(options or ()))
