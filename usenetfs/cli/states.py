"""How points in time are said: to people, and by them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from usenetfs.config.units import human_duration, human_size, parse_duration
from usenetfs.errors import UsageError

if TYPE_CHECKING:
    from usenetfs.checkpoint.record import Record

_NUMBER: Final = re.compile(r"#?\d{1,18}")


def moment(seconds: float) -> str:
    """A time as the user's clock shows it."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ago(seconds: float) -> str:
    """How long ago that was; empty for the future."""
    passed = time.time() - seconds
    return f"{human_duration(passed)} ago" if passed >= 0 else "by a clock that is ahead of ours"


def describe_record(record: Record) -> list[str]:
    """What a checkpoint holds, a line each."""
    counters = record.counters
    published = f"{moment(record.time)} ({ago(record.time)})"
    content = f"{counters.files} files in {counters.directories} directories"
    lines = [
        f"checkpoint {record.number} of {published}, by writer {record.writer.hex()}",
        f"{content}, {human_size(counters.bytes)}",
    ]
    if counters.held:
        lines.append(
            f"{counters.held} files had changes that were not uploaded yet: they are as before"
        )
    return lines


def parse_point(text: str) -> int | float:
    """A checkpoint's number (int), or a time in seconds since 1970 (float).

    ``118`` or ``#118``; ``2026-11-25``, ``2026-11-25 22:10``, with or without a zone (ours, unless
    given); ``2 h ago``. UsageError.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return int(text.removeprefix("#"))
    if text.endswith("ago"):
        try:
            return time.time() - parse_duration(text.removesuffix("ago").strip())
        except ValueError as error:
            raise UsageError(f'"{text}" is no time: {error}') from None
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise UsageError(
            f'"{text}" is neither the number of a checkpoint nor a time',
            hint='such as 118, "2026-11-25 22:10" or "2 h ago"; see: usenetfs checkpoints NAME',
        ) from None
