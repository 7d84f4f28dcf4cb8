"""A terminal with somebody at it who answers questions.

Passwords are typed on a terminal or not at all, so a document's commands need one. Owns the
pseudo-terminal and the process on it; both end within the deadline.
"""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Said:
    """What a command showed, and how it ended."""

    text: str
    status: int


def type_command(
    line: str,
    *,
    environment: Mapping[str, str],
    directory: Path,
    answers: Mapping[str, str],
    timeout: float = 60,
) -> Said:
    """Run a line of shell on a terminal; ``answers`` maps patterns of prompts to what is typed."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", "bash", "-c", line],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=dict(environment),
            cwd=directory,
        )
    finally:
        os.close(theirs)
    text, answered = "", 0
    deadline = time.monotonic() + timeout
    try:
        while (piece := _read(ours, deadline)) is not None:
            text += piece
            for prompt, answer in answers.items():
                if re.search(rf"{prompt}$", text[answered:]):
                    answered = len(text)
                    os.write(ours, answer.encode() + b"\n")
        status = process.wait(max(deadline - time.monotonic(), 1))
    except BaseException as error:
        process.kill()
        process.wait()
        error.add_note(f"{line}\n{text}")
        raise
    finally:
        os.close(ours)
    return Said(text.replace("\r\n", "\n"), status)


def _read(terminal: int, deadline: float) -> str | None:
    """What comes next; None when nobody has the terminal open any more."""
    if not select.select([terminal], [], [], max(deadline - time.monotonic(), 0))[0]:
        raise TimeoutError("the command did not end in time")
    try:
        return os.read(terminal, 65536).decode(errors="replace")
    except OSError:
        return None
