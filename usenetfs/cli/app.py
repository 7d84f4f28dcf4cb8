"""The commands, their arguments and their help. What they do is in ``commands``.

Nothing but typer is loaded here: a command's module is imported when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from usenetfs import __version__
from usenetfs.cli.arguments import AnyName, Json, Name
from usenetfs.cli.cache_app import cache_app
from usenetfs.cli.group import CommandGroup
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
            help="ro, rw, allow_other, writeback, debug, fsync=local|posted|seen.",
        ),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="The same as -o ro.")] = False,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="TIME|NUMBER",
            help="Read-only, as it was: a checkpoint's number, or such as '2 h ago'.",
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Read-only; shows what another machine writes, as it does."),
    ] = False,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    secrets_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Mount a filesystem; returns when it is usable.

    With --at or --follow a view with an index of its own, beside the filesystem's mount if there
    is one, here or on another machine. Example: usenetfs mount photos ~/photos
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
        at=at,
        follow=follow,
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


@app.command(rich_help_panel=FILESYSTEMS)
def recover(
    ctx: typer.Context,
    name: Name,
    recovery_key: Annotated[
        bool,
        typer.Option(
            "--recovery-key",
            help="Ask for the recovery key; the passphrase asked for is a new one.",
        ),
    ] = False,
    recovery_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read the recovery key from here (- is standard input)."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask; what is here is moved aside.")
    ] = False,
    json: Json = False,
) -> None:
    """Get a filesystem back from the servers, and take it over.

    With the passphrase alone, or with the recovery key. Example: usenetfs recover photos
    """
    from usenetfs.cli.commands.recover import run

    run(
        ctx.obj,
        name,
        recovery_key=recovery_key,
        recovery_key_file=recovery_key_file,
        yes=yes,
        as_json=json,
    )


@app.command(rich_help_panel=FILESYSTEMS)
def checkpoints(
    ctx: typer.Context,
    name: Name,
    count: Annotated[
        int, typer.Option("--count", "-n", min=0, help="How many, the newest; 0 for all.")
    ] = 20,
    json: Json = False,
) -> None:
    """List the points in time that are on the servers: mount --at takes any of them."""
    from usenetfs.cli.commands.checkpoints import run

    run(ctx.obj, name, count=count, as_json=json)


# --- files ---------------------------------------------------------------------------------------


@app.command(rich_help_panel=FILES)
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


@app.command(rich_help_panel=FILES)
def upload(
    ctx: typer.Context,
    places: Annotated[
        list[str],
        typer.Argument(metavar="SRC… NAME:/PATH", help="What to upload, and into what."),
    ],
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Leave out what matches, as rsync does; repeatable."),
    ] = None,
    checksum: Annotated[
        bool, typer.Option("--checksum", "-c", help="Compare contents instead of sizes and times.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")
    ] = False,
    no_wait: Annotated[
        bool,
        typer.Option(
            "--no-wait", help="End when all is staged here, not when it is on the servers."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print events as lines of JSON.")] = False,
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


@app.command(rich_help_panel=FILES)
def download(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="NAME:/PATH", help="What to download.")],
    target: Annotated[str, typer.Argument(metavar="DEST", help="Into what, on this machine.")],
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Leave out what matches, as rsync does; repeatable."),
    ] = None,
    checksum: Annotated[
        bool, typer.Option("--checksum", "-c", help="Compare contents instead of sizes and times.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print events as lines of JSON.")] = False,
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


@app.command(rich_help_panel=FILES)
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


@app.command(rich_help_panel=FILES)
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


# --- care ----------------------------------------------------------------------------------------


@app.command(rich_help_panel=CARE)
def fsck(
    ctx: typer.Context,
    name: Name,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Check every page of the index.")] = False,
    json: Json = False,
) -> None:
    """Check an unmounted filesystem's index and staging area."""
    from usenetfs.cli.commands.fsck import run

    run(ctx.obj, name, repair=repair, deep=deep, as_json=json)


key_app = typer.Typer(no_args_is_help=True, help="The recovery key, and another passphrase.")
app.add_typer(key_app, name="key", rich_help_panel=CARE)


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


app.add_typer(cache_app, name="cache", rich_help_panel=CARE)
app.add_typer(staging_app, name="staging", rich_help_panel=CARE)


# --- servers and settings ------------------------------------------------------------------------

server_app = typer.Typer(no_args_is_help=True, help="News servers and their passwords.")
app.add_typer(server_app, name="server", rich_help_panel=SERVERS)


@server_app.command("add")
def server_add(  # noqa: PLR0913, PLR0917  one for each key of a server
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="How to call it.")],
    host: Annotated[str | None, typer.Option(help="Its address.")] = None,
    port: Annotated[int | None, typer.Option(help="563, or 119 without TLS.")] = None,
    tls: Annotated[
        str | None,
        typer.Option(metavar="implicit|starttls|none", help="How it is protected."),
    ] = None,
    username: Annotated[str | None, typer.Option(help="The account's name.")] = None,
    connections: Annotated[
        int | None,
        typer.Option(help="At most this many at once; 8 unless given."),
    ] = None,
    priority: Annotated[int | None, typer.Option(help="Lower is asked first.")] = None,
    posting: Annotated[
        bool | None,
        typer.Option("--posting/--no-posting", help="Whether to post there."),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificates to trust there."),
    ] = None,
    pin: Annotated[
        str | None,
        typer.Option(metavar="SHA256", help="The only certificate to accept."),
    ] = None,
    storage_group: Annotated[
        str | None,
        typer.Option(help="Servers of one group share their articles."),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read the password from here instead of asking."),
    ] = None,
) -> None:
    """Add a server; asks for its password, which is stored encrypted.

    Example: usenetfs server add main --host news.example.net --username me --connections 20
    """
    from usenetfs.cli.commands.server import add

    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "tls": tls,
        "username": username,
        "connections": connections,
        "priority": priority,
        "posting": posting,
        "ca_file": str(ca_file.absolute()) if ca_file else None,
        "pin": pin,
        "storage_group": storage_group,
    }
    given = {key: value for key, value in given.items() if value is not None}
    add(ctx.obj, name, given, password_file=password_file)


@server_app.command("list")
def server_list(ctx: typer.Context, json: Json = False) -> None:
    """Show the configured servers."""
    from usenetfs.cli.commands.server import list_servers

    list_servers(ctx.obj, as_json=json)


@server_app.command("test")
def server_test(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A configured server.")],
    traffic: Annotated[
        str, typer.Option(metavar="SIZE", help="At most so much, both ways together.")
    ] = "300 MB",
    group: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Post there; the first configured one unless given."),
    ] = None,
    posting: Annotated[
        bool, typer.Option("--posting/--no-posting", help="Whether to post anything.")
    ] = True,
    speed: Annotated[bool, typer.Option("--speed/--no-speed", help="Measure speeds.")] = True,
    json: Json = False,
) -> None:
    """Find out what a server can do, and what to configure; says first what traffic it takes.

    Example: usenetfs server test main --traffic "100 MB"
    """
    from usenetfs.cli.commands.server_test import test

    test(ctx.obj, name, traffic=traffic, group=group, posting=posting, speed=speed, as_json=json)


@server_app.command("remove")
def server_remove(ctx: typer.Context, name: Annotated[str, typer.Argument()]) -> None:
    """Remove a server and its password."""
    from usenetfs.cli.commands.server import remove

    remove(ctx.obj, name)


config_app = typer.Typer(no_args_is_help=True, help="Settings and where they come from.")
app.add_typer(config_app, name="config", rich_help_panel=SERVERS)


@config_app.command("show")
def config_show(
    ctx: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each comes from.")] = False,
    json: Json = False,
) -> None:
    """Show every setting in force."""
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
def config_path(ctx: typer.Context) -> None:
    """Show which configuration files are read, strongest first."""
    from usenetfs.cli.commands.config import path

    path(ctx.obj)


@app.command(rich_help_panel=SERVERS)
def nntpd(  # noqa: PLR0913, PLR0917  one for each option
    ctx: typer.Context,
    spool: Annotated[Path, typer.Option(metavar="DIR", help="Where articles are kept.")],
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Loopback unless told otherwise.")
    ] = "127.0.0.1:1119",
    group: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A newsgroup to carry; may be given again."),
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option(metavar="PLAN", help="A file that says what shall go wrong, for tests."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Who may log in.")] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The password of --user."),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM.")] = None,
    starttls: Annotated[
        bool, typer.Option("--starttls", help="Offer STARTTLS instead of TLS at once.")
    ] = False,
    latency: Annotated[str, typer.Option(metavar="TIME", help="Delay of each reply.")] = "0 s",
    max_article: Annotated[
        str, typer.Option(metavar="SIZE", help="Largest article taken.")
    ] = "1000000",
    durable: Annotated[
        bool, typer.Option("--durable", help="Acknowledge only what survives power loss.")
    ] = False,
) -> None:
    """Run the embedded news server, for trying things out; no public server.

    Example: usenetfs nntpd --listen 127.0.0.1:1119 --spool /tmp/spool
    """
    from usenetfs.cli.commands.nntpd import run

    run(
        ctx.obj,
        listen=listen,
        spool=spool,
        groups=list(group or ()),
        faults=faults,
        user=user,
        password_file=password_file,
        tls_cert=tls_cert,
        tls_key=tls_key,
        starttls=starttls,
        latency=latency,
        max_article=max_article,
        durable=durable,
    )
