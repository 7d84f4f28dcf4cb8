"""How commands speak: results on stdout, everything else on stderr, errors in two lines.

Owns the form of error messages and of JSON output. Colours, bars and tables come from rich, which
is loaded only by commands that show them, and only act on a terminal; ``NO_COLOR`` is rich's own
business.
"""

from __future__ import annotations

import json
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final

from usenetfs.cli.exit_status import ExitStatus, exit_status
from usenetfs.errors import NoHealthyServersError, UsenetfsError

if TYPE_CHECKING:
    from rich.console import Console


_CONTROL: Final = dict.fromkeys((*range(32), *range(127, 160)), "?")


def clean(text: str) -> str:
    """What a terminal might obey, or cannot show, as a question mark: names and servers do not get
    to say it."""
    return text.encode("utf-8", "replace").decode().translate(_CONTROL)


def say(text: str) -> None:
    """A line of result."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """A line that is no result: progress, warnings, questions."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def say_json(value: Any) -> None:
    """A result for programs: one JSON value, indented, with stable keys."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a path that is no UTF-8: only an escape can carry it
        text = json.dumps(value, indent=2)
    sys.stdout.write(text + "\n")


def console(*, stderr: bool = False) -> Console:
    """A rich console over the present stdout or stderr; plain text when that is no terminal."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def report_error(error: BaseException, *, verbosity: int) -> None:
    """Say what went wrong and what to do; a traceback only with ``-vv``."""
    if verbosity >= 2:
        traceback.print_exception(error)
    for line in error_lines(error):
        note(line)


def error_lines(error: BaseException) -> list[str]:
    """``usenetfs: message`` and, where there is one, ``hint: …``."""
    if not isinstance(error, UsenetfsError):
        kind = type(error).__name__
        return [
            f"usenetfs: internal error: {kind}: {error}",
            "hint: this is a bug; run the command again with -vv and report what it prints",
        ]
    lines = [f"usenetfs: {error.message}"]
    if isinstance(error, NoHealthyServersError):
        lines += [f"  {server}: {reason}" for server, reason in error.reasons.items()]
    hint = error.hint
    if hint is None and exit_status(error) is ExitStatus.LOCAL_STORAGE:
        hint = "is the disk full, or failing? usenetfs doctor looks"
    if hint:
        lines.append(f"hint: {hint}")
    return lines
