"""The root of the command line: the options common to all commands, and the list of commands.

The arguments and the help of each are in the modules named here, what it does is in ``commands``.
Nothing but typer is loaded for all this: a command's module is imported when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from usenetfs import __version__
from usenetfs.cli import file_commands, filesystem_commands
from usenetfs.cli.cache_app import cache_app
from usenetfs.cli.config_app import config_app
from usenetfs.cli.group import CommandGroup
from usenetfs.cli.key_app import key_app
from usenetfs.cli.server_app import nntpd, server_app
from usenetfs.cli.service_app import service_app
from usenetfs.cli.staging_app import staging_app

FILESYSTEMS = "Filesystems"
FILES = "Files"
SERVERS = "Servers and settings"
CARE = "Care"

app = typer.Typer(
    name="usenetfs",
    cls=CommandGroup,
    help="A filesystem whose disk is Usenet.",
    epilog="The options above may also stand after the command. Exit statuses: docs/exit-status.md",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"usenetfs {__version__}")
        raise typer.Exit


@app.callback()
def common_options(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", envvar="USENETFS_CONFIG", help="Read this instead of the user's file."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where filesystems live. [USENETFS_DATA_DIR]"),
    ] = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where fetched articles are kept. [USENETFS_CACHE_DIR]"),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="USENETFS_PASSPHRASE_FILE",
            help="Read the passphrase from here (- is standard input).",
        ),
    ] = None,
    vault_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="USENETFS_VAULT_PASSPHRASE_FILE",
            help="The vault's passphrase, where it is another one.",
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help='Override a setting: "cache.max_size=5 GiB".'
        ),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(metavar="text|json", help="Form of the log. [USENETFS_LOG_FORMAT]"),
    ] = None,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Say more; -vv shows tracebacks.")
    ] = 0,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """Options common to all commands."""
    from usenetfs.cli.context import Common

    del version
    ctx.obj = Common(
        config_file=config,
        data_dir=data_dir,
        cache_dir=cache_dir,
        passphrase_file=passphrase_file,
        vault_passphrase_file=vault_passphrase_file,
        log_format=log_format,
        assignments=tuple(assignments or ()),
        verbosity=verbose,
    )


COMMANDS: Final[Mapping[str, Sequence[Callable[..., None]]]] = {
    FILESYSTEMS: (
        filesystem_commands.init,
        filesystem_commands.mount,
        filesystem_commands.umount,
        filesystem_commands.status,
        filesystem_commands.sync,
        filesystem_commands.recover,
        filesystem_commands.checkpoints,
    ),
    FILES: (
        file_commands.ls,
        file_commands.upload,
        file_commands.download,
        file_commands.rm,
        file_commands.mv,
    ),
    CARE: (
        filesystem_commands.verify,
        filesystem_commands.doctor,
        filesystem_commands.fsck,
    ),
    SERVERS: (nntpd,),
}
for _panel, _commands in COMMANDS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)

app.add_typer(key_app, name="key", rich_help_panel=CARE)
app.add_typer(cache_app, name="cache", rich_help_panel=CARE)
app.add_typer(staging_app, name="staging", rich_help_panel=CARE)
app.add_typer(service_app, name="service", rich_help_panel=SERVERS)
app.add_typer(server_app, name="server", rich_help_panel=SERVERS)
app.add_typer(config_app, name="config", rich_help_panel=SERVERS)
