"""``NAME:/PATH`` on the command line: a place in a filesystem."""

from __future__ import annotations

from dataclasses import dataclass

from usenetfs.errors import UsageError


@dataclass(frozen=True, slots=True)
class Place:
    """``path`` is as given: from the root, whether it begins with a slash or not."""

    name: str
    path: str


def parse_place(text: str) -> Place:
    """UsageError when there is no colon in it, or nothing before that."""
    name, colon, path = text.partition(":")
    if not name or not colon or "/" in name:
        raise UsageError(
            f'"{text}" is not of the form NAME:/PATH', hint="for example: photos:/2026"
        )
    return Place(name, path)
