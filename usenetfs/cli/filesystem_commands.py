"""The commands on whole filesystems: their arguments and their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usenetfs.cli.arguments import AnyName, Json, JsonEvents, Name, Shards


def init(
    ctx: typer.Context,
    name: Name,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not check the servers and newsgroups.")
    ] = False,
    block_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Size of a block; fixed for good.")
    ] = "700 KiB",
    shards: Shards = 1,
    json: Json = False,
) -> None:
    """Make a filesystem: its keys and an empty index. Prints the recovery key, once.

    Example: usenetfs init photos
    """
    from usenetfs.cli.commands.init import run

    run(ctx.obj, name, offline=offline, block_size=block_size, shards=shards, as_json=json)


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
            help="ro, rw, allow_other, writeback, noexec, debug, fsync=local|posted|seen.",
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


def status(
    ctx: typer.Context,
    name: AnyName = None,
    json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it.")] = False,
    link: Annotated[
        bool, typer.Option("--link", help="Print the link of the web page, with its token.")
    ] = False,
) -> None:
    """Show where everything stands: what is safe, queues, speeds, servers, cache, errors.

    Example: usenetfs status --watch
    """
    from usenetfs.cli.commands.status import run

    run(ctx.obj, name, as_json=json, watch=watch, link=link)


def sync(ctx: typer.Context, name: AnyName = None, json: Json = False) -> None:
    """Return when everything written so far is on the servers, and in a checkpoint.

    Example: usenetfs sync photos
    """
    from usenetfs.cli.commands.sync import run

    run(ctx.obj, name, as_json=json)


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
    shards: Shards = 1,
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
        shards=shards,
        as_json=json,
    )


def checkpoints(
    ctx: typer.Context,
    name: Name,
    count: Annotated[
        int, typer.Option("--count", "-n", min=0, help="How many, the newest; 0 for all.")
    ] = 20,
    json: Json = False,
) -> None:
    """List the points in time that are on the servers: mount --at takes any of them.

    Example: usenetfs checkpoints photos -n 100
    """
    from usenetfs.cli.commands.checkpoints import run

    run(ctx.obj, name, count=count, as_json=json)


def verify(
    ctx: typer.Context,
    place: Annotated[
        str,
        typer.Argument(
            metavar="NAME[:/PATH]", help="The filesystem and its checkpoints, or a file or tree."
        ),
    ],
    data: Annotated[
        bool,
        typer.Option("--data", help="Fetch every article and open it, rather than ask for it."),
    ] = False,
    unverified: Annotated[
        bool,
        typer.Option(
            "--unverified", help="Fetch only what never was: goes on where --data was interrupted."
        ),
    ] = False,
    subset: Annotated[
        str | None,
        typer.Option(
            metavar="N%", help="Fetch a random part, what never was fetched before the rest."
        ),
    ] = None,
    json: JsonEvents = False,
) -> None:
    """Ask the servers whether they still have everything; works mounted or not.

    Status 17 when something is lost, 3 when not everything could be asked for.
    Example: usenetfs verify photos
    """
    from usenetfs.cli.commands.verify import run

    run(ctx.obj, place, data=data, unverified=unverified, subset=subset, as_json=json)


def fsck(
    ctx: typer.Context,
    name: Name,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only report, as it does without --repair.")
    ] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Check every page of the index.")] = False,
    json: Json = False,
) -> None:
    """Check an unmounted filesystem's index and staging area; changes nothing without --repair.

    Example: usenetfs fsck photos --deep
    """
    from usenetfs.cli.commands.fsck import run

    run(ctx.obj, name, repair=repair, dry_run=dry_run, deep=deep, as_json=json)


def doctor(
    ctx: typer.Context,
    name: AnyName = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Leave the servers out, and ask no passphrase.")
    ] = False,
    json: Json = False,
) -> None:
    """Check what a mount needs: FUSE, limits, clock, disk, permissions, servers. Posts nothing.

    Status 1 when something will not work. Example: usenetfs doctor
    """
    from usenetfs.cli.commands.doctor import run

    run(ctx.obj, name, offline=offline, as_json=json)
