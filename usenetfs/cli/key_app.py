"""``usenetfs key …``: the commands, their arguments and their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usenetfs.cli.arguments import Json, Name

key_app = typer.Typer(no_args_is_help=True, help="The recovery key, and another passphrase.")


@key_app.command("show-recovery")
def key_show_recovery(ctx: typer.Context, name: Name, json: Json = False) -> None:
    """Print the recovery key: whoever has it can read everything.

    Example: usenetfs key show-recovery photos
    """
    from usenetfs.cli.commands.key import show_recovery

    show_recovery(ctx.obj, name, as_json=json)


@key_app.command("publish")
def key_publish(ctx: typer.Context, name: Name) -> None:
    """Post the key records anew: after init --offline, or before they expire on the servers.

    Example: usenetfs key publish photos
    """
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

    Example: usenetfs key change-passphrase photos
    """
    from usenetfs.cli.commands.key import change_passphrase

    change_passphrase(ctx.obj, name, new_passphrase_file=new_passphrase_file, offline=offline)


@key_app.command("remember")
def key_remember(ctx: typer.Context, name: Name) -> None:
    """Keep the passphrase in the desktop's keyring, so that mounting asks for nothing.

    Needs the package keyring (pipx inject usenetfs keyring) and the setting keys.keyring = true.

    Example: usenetfs key remember photos
    """
    from usenetfs.cli.commands.key import remember

    remember(ctx.obj, name)


@key_app.command("forget")
def key_forget(ctx: typer.Context, name: Name) -> None:
    """Take the passphrase out of the desktop's keyring.

    Example: usenetfs key forget photos
    """
    from usenetfs.cli.commands.key import forget

    forget(ctx.obj, name)
