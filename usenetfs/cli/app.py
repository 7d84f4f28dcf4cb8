"""The commands, their arguments and their help. What they do is in ``commands``.

Nothing but typer is loaded here: a command's module is imported when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usenetfs import __version__
from usenetfs.cli.group import CommandGroup

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

Name = Annotated[str, typer.Argument(metavar="NAME", help="The filesystem.")]
AnyName = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="The filesystem; may be left out when there is one."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


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


# --- filesystems ---------------------------------------------------------------------------------


@app.command(rich_help_panel=FILESYSTEMS)
def init(
    ctx: typer.Context,
    name: Name,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not check the servers and newsgroups.")
    ] = False,
    block_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Size of a block; fixed for good.")
    ] = "700 KiB",
    json: Json = False,
) -> None:
    """Make a filesystem: its keys and an empty index. Prints the recovery key, once.

    Example: usenetfs init photos
    """
    from usenetfs.cli.commands.init import run

    run(ctx.obj, name, offline=offline, block_size=block_size, as_json=json)


@app.command(rich_help_panel=FILESYSTEMS)
def mount(
    ctx: typer.Context,
    name: Name,
    mountpoint: Annotated[Path, typer.Argument(help="An empty directory.")],
    foreground: Annotated[
        bool, typer.Option("--foreground", "-f", help="Stay in the foreground.")
    ] = False,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--options",
            "-o",
            metavar="OPT,…",
            help="ro, rw, allow_other, writeback, fsync=local|posted|seen, debug.",
        ),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="The same as -o ro.")] = False,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    secrets_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Mount a filesystem; returns when it is usable.

    Example: usenetfs mount photos ~/photos
    """
    from usenetfs.cli.commands.mount import run

    run(
        ctx.obj,
        name,
        mountpoint,
        foreground=foreground,
        options=list(options or ()) + (["ro"] if read_only else []),
        ready_fd=ready_fd,
        secrets_fd=secrets_fd,
    )


@app.command(rich_help_panel=FILESYSTEMS)
def umount(
    ctx: typer.Context,
    mountpoint: Annotated[Path, typer.Argument(help="Where it is mounted.")],
    lazy: Annotated[
        bool, typer.Option("--lazy", help="Do not wait; the rest is uploaded after the next mount.")
    ] = False,
) -> None:
    """Wait until everything is safe on the servers, then unmount.

    Example: usenetfs umount ~/photos
    """
    from usenetfs.cli.commands.umount import run

    run(ctx.obj, mountpoint, lazy=lazy)


@app.command(rich_help_panel=FILESYSTEMS)
def status(
    ctx: typer.Context,
    name: AnyName = None,
    json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it.")] = False,
) -> None:
    """Show where everything stands: what is safe, queues, speeds, servers, cache, errors."""
    from usenetfs.cli.commands.status import run

    run(ctx.obj, name, as_json=json, watch=watch)


@app.command(rich_help_panel=FILESYSTEMS)
def sync(ctx: typer.Context, name: AnyName = None, json: Json = False) -> None:
    """Return when everything written so far is safe on the servers."""
    from usenetfs.cli.commands.sync import run

    run(ctx.obj, name, as_json=json)
