"""Where in a TOML file each key stands.

``tomllib`` forgets line numbers, and an error message without one sends people hunting. This is
not a second parser: it is only asked about text that ``tomllib`` has accepted, and it gives up
quietly (no entry) on what it does not follow, such as keys inside an inline table.
"""

from __future__ import annotations

import re
from typing import Final

Path = tuple[str | int, ...]

_KEY: Final = r"""(?:[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*')"""
_DOTTED: Final = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER: Final = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*(?:#.*)?")
_PAIR: Final = re.compile(rf"\s*({_DOTTED})\s*=\s*(.*)", re.DOTALL)
_PART: Final = re.compile(_KEY)
_TOKEN: Final = re.compile(
    r'''"""(?:\\.|(?!""").)*"""|\'\'\'.*?\'\'\'|"""|\'\'\'|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\#[^\n]*|[\[\]{}]''',
    re.DOTALL,
)


def locate_keys(text: str) -> dict[Path, int]:
    """Line (from 1) of each table header and each ``key =``, by path.

    Elements of an array of tables are numbered: ``("servers", 0, "host")``.
    """
    lines = text.split("\n")
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    at = 0
    while at < len(lines):
        line = lines[at]
        number = at + 1
        at += 1
        if header := _HEADER.fullmatch(line.rstrip("\r")):
            table = _enter(header[1] == "[[", _parts(header[2]), counts)
            found.setdefault(table, number)
        elif pair := _PAIR.fullmatch(line.rstrip("\r")):
            path = table + _parts(pair[1])
            for length in range(len(table) + 1, len(path) + 1):
                found.setdefault(path[:length], number)
            value = pair[2]
            while not _complete(value) and at < len(lines):
                value += "\n" + lines[at]
                at += 1
    return found


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _enter(is_array: bool, names: tuple[str, ...], counts: dict[Path, int]) -> Path:
    """The path that a header opens; arrays of tables on the way stand for their last element."""
    path: Path = ()
    for position, name in enumerate(names):
        path += (name,)
        if is_array and position == len(names) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path += (counts[path],)
    return path


def _complete(value: str) -> bool:
    """Whether a value that starts here also ends here: no bracket and no long string left open."""
    depth = 0
    for token in _TOKEN.findall(value):
        if token in {'"""', "'''"}:
            return False
        depth += (token in {"[", "{"}) - (token in {"]", "}"})
    return depth <= 0
