"""``usenetfs key …``: the commands, their arguments and their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usenetfs.cli.arguments import Name

key_app = typer.Typer(no_args_is_help=True, help="The recovery key, and another passphrase.")


@key_app.command("show-recovery")
def key_show_recovery(ctx: typer.Context, name: Name) -> None:
    """Print the recovery key: whoever has it can read everything."""
    from usenetfs.cli.commands.key import show_recovery

    show_recovery(ctx.obj, name)


@key_app.command("publish")
def key_publish(ctx: typer.Context, name: Name) -> None:
    """Post the key records anew: after init --offline, or before they expire on the servers."""
    from usenetfs.cli.commands.key import publish

    publish(ctx.obj, name)


@key_app.command("change-passphrase")
def key_change_passphrase(
    ctx: typer.Context,
    name: Name,
    new_passphrase_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read the new passphrase from here."),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Only here; the servers keep the old one.")
    ] = False,
) -> None:
    """Choose another passphrase; the recovery key stays the same.

    What was posted under the old one stays readable with it: see docs/threat-model.md.
    """
    from usenetfs.cli.commands.key import change_passphrase

    change_passphrase(ctx.obj, name, new_passphrase_file=new_passphrase_file, offline=offline)
