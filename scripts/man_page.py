"""The manual page, from the command line's own tree.

    python -m scripts.man_page           writes docs/man/usenetfs.1
    python -m scripts.man_page --check   says whether it is up to date

Owns the form of the page (man(7)). What it says is in the commands, their options and their help,
so that the page cannot tell anything else than ``--help``. It carries no date: the same commands
give the same page.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from usenetfs import __version__
from usenetfs.cli.app import app
from usenetfs.cli.exit_status import MEANING

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "man" / "usenetfs.1"

FILES: Final = (
    ("~/.config/usenetfs/config.toml", "The user's configuration."),
    ("/etc/usenetfs/config.toml", "The machine's."),
    ("~/.local/share/usenetfs/NAME", "A filesystem: keys, index, staging, logs. Keep it."),
    ("~/.local/share/usenetfs/vault.json", "Passwords of servers, encrypted."),
    ("~/.cache/usenetfs", "What was fetched; may be deleted at any time."),
)
ENVIRONMENT: Final = (
    ("USENETFS_SECTION__KEY", "Any setting; USENETFS_CACHE__MAX_SIZE, for example."),
    ("USENETFS_CONFIG", "As --config."),
    ("USENETFS_PASSPHRASE_FILE, USENETFS_VAULT_PASSPHRASE_FILE", "As the options of these names."),
    ("USENETFS_PASSPHRASE, USENETFS_VAULT_PASSPHRASE", "The passphrases, where no file is given."),
    ("NO_COLOR", "No colours, if it is set."),
)


def page() -> str:
    """The whole of it."""
    # The tree is of classes that typer keeps to itself.
    root: Any = typer.main.get_command(app)
    lines = [
        f'.TH USENETFS 1 "" "usenetfs {__version__}" "User Commands"',
        ".SH NAME",
        r"usenetfs \- a filesystem whose disk is Usenet",
        ".SH SYNOPSIS",
        r"\fBusenetfs\fR [\fIOPTION\fR]... \fICOMMAND\fR [\fIARGUMENT\fR]...",
        ".SH DESCRIPTION",
        "A directory is mounted; copying files in uploads them, sealed article by article, to news",
        "servers; opening files streams them back.",
        "Begin with:",
        ".PP",
        ".nf",
        ".RS",
        r"usenetfs server add NAME \-\-host HOST \-\-username ME \-\-group NEWSGROUP",
        "usenetfs init photos",
        "usenetfs mount photos ~/photos",
        ".RE",
        ".fi",
        ".SH OPTIONS",
        "These may stand before or after the command.",
        *_options(root),
    ]
    for panel, commands in _panels(root).items():
        lines.append(f'.SH "{_text(panel.upper())}"')
        for name, command in commands:
            lines += _command(name, command)
    lines.append('.SH "EXIT STATUS"')
    for status, meaning in MEANING.items():
        lines += [".TP", str(int(status)), _text(meaning)]
    for title, rows in (("FILES", FILES), ("ENVIRONMENT", ENVIRONMENT)):
        lines.append(f".SH {title}")
        for name, meaning in rows:
            lines += [".TP", f".I {_text(name)}", _text(meaning)]
    lines += [".SH SEE ALSO", ".BR mount (8),", ".BR fusermount3 (1),", ".BR systemd.service (5)"]
    return "\n".join(lines) + "\n"


def _panels(root: Any) -> dict[str, list[tuple[str, Any]]]:
    """Commands by the heading under which ``--help`` shows them; those of groups one by one."""
    panels: dict[str, list[tuple[str, Any]]] = {}
    for name, command in root.commands.items():
        if command.hidden:
            continue
        inner = getattr(command, "commands", None)
        listed = [(name, command)] if inner is None else _below(name, inner)
        panels.setdefault(command.rich_help_panel or "Commands", []).extend(listed)
    return panels


def _below(name: str, commands: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{name} {key}", command) for key, command in commands.items() if not command.hidden]


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    words = " ".join(_argument(argument) for argument in arguments)
    yield f'.SS "{_text(f"{name} {words}".strip())}"'
    for number, paragraph in enumerate((command.help or "").split("\n\n")):
        if number:
            yield ".PP"
        yield _text(" ".join(paragraph.split()))
    for argument in arguments:
        if argument.help:
            yield from (".TP", f".I {_text(_argument(argument))}", _text(argument.help))
    yield from _options(command)


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.name.upper()).strip("[]{}")
    name += "..." if argument.nargs == -1 else ""
    return name if argument.required else f"[{name}]"


def _options(command: Any) -> Iterator[str]:
    for option in command.params:
        if option.param_type_name != "option" or option.hidden or option.name == "help":
            continue
        names = ", ".join([*option.opts, *option.secondary_opts])
        value = "" if option.is_flag or option.count else f" {_metavar(option)}"
        yield from (".TP", f'.BR "{_text(names)}" "{_text(value)}"', _text(option.help or ""))


def _metavar(option: Any) -> str:
    return str(option.metavar or option.name.upper())


def _text(text: str) -> str:
    """As roff prints it: typed hyphens stay such, and no line is taken for a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("`", "")
    text = text.replace("…", "...").replace("’", "'")
    return re.sub(r"^(?=[.'])", r"\\&", text)


def main(arguments: list[str]) -> int:
    """Write it, or only compare."""
    text = page()
    if arguments == ["--check"]:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        if not current:
            print("docs/man/usenetfs.1 is out of date: python -m scripts.man_page")
        return int(not current)
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
