"""Arguments and options that many commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from usenetfs.errors import UsenetfsError


def filesystem_names(incomplete: str) -> list[str]:
    """For the shell's completion: the filesystems of this machine. Nothing where it cannot tell."""
    from usenetfs.config.directories import find_directories

    try:
        names = find_directories().names()
    except UsenetfsError:
        return []
    return [name for name in names if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The filesystem.", autocompletion=filesystem_names),
]
AnyName = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        help="The filesystem; may be left out when there is one.",
        autocompletion=filesystem_names,
    ),
]
Shards = Annotated[
    int,
    typer.Option(
        "--shards",
        metavar="N",
        min=1,
        max=64,
        help="Files that the index is spread over; fixed as long as it is here.",
    ),
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Leave out what matches, as rsync does; repeatable."),
]
Checksum = Annotated[
    bool, typer.Option("--checksum", "-c", help="Compare contents instead of sizes and times.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]
JsonEvents = Annotated[bool, typer.Option("--json", help="Print events as lines of JSON.")]
