"""Sizes and durations as people write them.

Owns the spelling of both in configuration, on the command line and in output. Every value that
``format_size`` or ``format_duration`` prints exactly reads back as the same number. Knows nothing
of settings.
"""

from __future__ import annotations

import re
from typing import Final

_SIZE_UNITS: Final[dict[str, int]] = {
    "": 1,
    "b": 1,
    **{prefix + "ib": 1024**power for power, prefix in enumerate("kmgt", start=1)},
    **{prefix + "b": 1000**power for power, prefix in enumerate("kmgt", start=1)},
    **{prefix: 1024**power for power, prefix in enumerate("kmgt", start=1)},
}
"""Octets in each unit, by its lower-case spelling. A bare ``k`` is 1024, as in ``dd``."""

_DURATION_UNITS: Final[dict[str, float]] = {
    "": 1.0,
    "ms": 0.001,
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
"""Seconds in each unit, by its lower-case spelling."""

_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([A-Za-z]*)")

SIZE_EXAMPLE: Final = '"20 GiB", "500 MB" or a number of bytes'
DURATION_EXAMPLE: Final = '"30 s", "5 min", "250 ms" or a number of seconds'


def parse_size(value: object) -> int:
    """Octets of ``20 GiB``, ``1.5M``, ``4096`` or a number; ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _unreadable(value, "size", SIZE_EXAMPLE)
    if isinstance(value, int | float):
        if value < 0 or not float(value).is_integer():
            raise _unreadable(value, "size", SIZE_EXAMPLE)
        return int(value)
    match = _QUANTITY.fullmatch(value.strip())
    factor = _SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise _unreadable(value, "size", SIZE_EXAMPLE)
    number = match[1]
    return round(float(number) * factor) if "." in number else int(number) * factor


def parse_duration(value: object) -> float:
    """Seconds of ``30 s``, ``5 min``, ``250ms`` or a number; ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _unreadable(value, "duration", DURATION_EXAMPLE)
    if isinstance(value, int | float):
        if not 0 <= value < float("inf"):
            raise _unreadable(value, "duration", DURATION_EXAMPLE)
        return float(value)
    match = _QUANTITY.fullmatch(value.strip())
    factor = _DURATION_UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise _unreadable(value, "duration", DURATION_EXAMPLE)
    return float(match[1]) * factor


def format_size(octets: int) -> str:
    """The shortest spelling that reads back as exactly ``octets``: ``20 GiB``, ``716800``."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if octets >= 1024**power and octets % 1024**power == 0:
            return f"{octets // 1024**power} {unit}"
    return str(octets)


def format_duration(seconds: float) -> str:
    """The shortest spelling that reads back as exactly ``seconds``: ``30 s``, ``5 min``."""
    for factor, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= factor and seconds % factor == 0:
            return f"{int(seconds // factor)} {unit}"
    if seconds == int(seconds):
        return f"{int(seconds)} s"
    milliseconds = seconds * 1000
    return f"{int(milliseconds)} ms" if milliseconds == int(milliseconds) else f"{seconds!r} s"


def human_size(octets: float) -> str:
    """About ``octets``, for people to read: three digits, decimal units (``1.07 GB``)."""
    value = float(octets)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 1000 or unit == "TB":
            break
        value /= 1000
    if unit == "B":
        return f"{int(value)} B"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f} {unit}"


def human_duration(seconds: float) -> str:
    """About ``seconds``, for people to read: ``12 s``, ``3 min 20 s``, ``3 d 4 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _unreadable(value: object, what: str, example: str) -> ValueError:
    shown = f'"{value}"' if isinstance(value, str) else repr(value)
    return ValueError(f"{shown} is not a {what}; write {example}")
