"""``usenetfs server …`` and ``usenetfs nntpd``: the commands, their arguments and their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from usenetfs.cli.arguments import Json

server_app = typer.Typer(no_args_is_help=True, help="News servers and their passwords.")


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
    group: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A newsgroup to post to, where none is configured; repeatable."
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read the password from here instead of asking."),
    ] = None,
) -> None:
    """Add a server; asks for its password, which is stored encrypted.

    The password is never an argument: it is asked for without echo, or read from a file.

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
    add(ctx.obj, name, given, password_file=password_file, groups=tuple(group or ()))


@server_app.command("list")
def server_list(ctx: typer.Context, json: Json = False) -> None:
    """Show the configured servers.

    Example: usenetfs server list
    """
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
    """Remove a server and its password.

    Example: usenetfs server remove main
    """
    from usenetfs.cli.commands.server import remove

    remove(ctx.obj, name)


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
