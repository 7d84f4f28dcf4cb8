"""Bars and graphs out of characters. Pure: numbers in, text out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"


def nice_top(value: float) -> float:
    """1, 2 or 5 times a power of ten, and no less than ``value``: the top of a scale."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in (1, 2, 5) if step * power >= value), 10 * power)


def graph(values: Sequence[float | None], height: int, top: float) -> list[str]:
    """``height`` lines, the highest first, a column for each value; None leaves it empty."""
    lines = []
    for row in range(height - 1, -1, -1):
        line = ""
        for value in values:
            eighths = 0 if value is None else round(8 * height * min(max(value / top, 0), 1))
            if value and not row:
                eighths = max(eighths, 1)  # a little is not nothing
            line += _EIGHTHS[min(max(eighths - 8 * row, 0), 8)]
        lines.append(line)
    return lines


def resampled(
    samples: Sequence[tuple[float, float]], columns: int, span: float, now: float
) -> list[float | None]:
    """Averages of ``(time, value)`` samples over the ``span`` seconds before ``now``, a column
    each; None where there is no sample."""
    sums = [0.0] * columns
    counts = [0] * columns
    for moment, value in samples:
        column = int((moment - (now - span)) / span * columns)
        if moment == now:
            column = columns - 1
        if 0 <= column < columns:
            sums[column] += value
            counts[column] += 1
    return [total / count if count else None for total, count in zip(sums, counts, strict=True)]


def shares(amounts: Sequence[float], width: int) -> list[int]:
    """``width`` characters divided as ``amounts`` are; whatever is not nothing gets one."""
    whole = sum(amounts)
    if whole <= 0 or width < len(amounts):
        return [0] * len(amounts)
    given, so_far, before = [], 0.0, 0
    spare = width - sum(amount > 0 for amount in amounts)
    for amount in amounts:
        so_far += amount
        until = round(spare * so_far / whole)
        given.append((amount > 0) + until - before)
        before = until
    return given


def bar(share: float, width: int) -> tuple[str, str]:
    """The full and the empty part of a bar, an eighth of a character exact."""
    eighths = round(8 * width * min(max(share, 0.0), 1.0))
    partial = "▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else ""
    full = "█" * (eighths // 8) + partial
    return full, " " * (width - len(full))
