"""The command group: options common to all commands, and the one place where errors end.

Common options may stand before or after the command's name; typer knows only the first, so they are
moved there. Whatever a command raises becomes two lines on stderr and an exit status here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import typer
from typer.core import TyperGroup

from usenetfs.cli.exit_status import exit_status
from usenetfs.cli.output import note, report_error

VALUE_OPTIONS: Final = frozenset(
    {
        "--config",
        "--data-dir",
        "--cache-dir",
        "--passphrase-file",
        "--vault-passphrase-file",
        "--log-format",
        "--set",
    }
)
FLAG_OPTIONS: Final = frozenset({"-v", "-vv", "-vvv", "--verbose"})


def hoist(arguments: Sequence[str]) -> list[str]:
    """``arguments`` with the common options first; those after ``--`` are left alone."""
    common: list[str] = []
    rest: list[str] = []
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        at += 1
        if argument == "--":
            rest += arguments[at - 1 :]
            break
        if argument in FLAG_OPTIONS or argument.partition("=")[0] in VALUE_OPTIONS:
            common.append(argument)
            if argument in VALUE_OPTIONS and at < len(arguments):
                common.append(arguments[at])
                at += 1
        else:
            rest.append(argument)
    return common + rest


class CommandGroup(TyperGroup):
    """The root of the command tree."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, hoist(args))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            note("usenetfs: interrupted")
            raise typer.Exit(exit_status(error)) from None
        except BrokenPipeError:
            raise
        except Exception as error:
            if type(error).__module__.startswith("typer"):
                raise  # usage errors, Exit and Abort are typer's own business
            report_error(error, verbosity=ctx.params.get("verbose") or 0)
            raise typer.Exit(exit_status(error)) from None
