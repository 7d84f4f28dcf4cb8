"""Arguments and options that many commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(metavar="NAME", help="The filesystem.")]
AnyName = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="The filesystem; may be left out when there is one."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
