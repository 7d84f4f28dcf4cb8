"""Which paths a transfer leaves out, by the patterns of ``--exclude``.

The rules are those that users of rsync know:

- a pattern without a slash (but at its end) is matched against the last name of a path, anywhere;
- one with a slash is matched against the end of the whole path, at a name's boundary; if it begins
  with a slash, against the path from the top of the transfer;
- a slash at the end: directories only;
- ``*`` is any text without a slash, ``**`` any text, ``?`` one octet but a slash, ``[a-z]`` one of
  these; a backslash takes the meaning away.

What is below an excluded directory is not looked at. Pure; paths are ``bytes``, relative to the top
of the transfer, without a slash at either end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator


class Exclude:
    """A set of patterns; a path is left out if one matches."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._rules = [_Rule(os.fsencode(pattern)) for pattern in patterns if pattern]

    def __repr__(self) -> str:
        return f"<Exclude {len(self._rules)} patterns>"

    def __call__(self, path: bytes, *, directory: bool) -> bool:
        """Whether ``path`` is left out."""
        return any(rule.matches(path, directory) for rule in self._rules)


class _Rule:
    """One pattern."""

    __slots__ = ("_directories", "_regex", "_whole")

    def __init__(self, pattern: bytes) -> None:
        self._directories = pattern.endswith(b"/") and len(pattern) > 1
        if self._directories:
            pattern = pattern.rstrip(b"/")
        anchored = pattern.startswith(b"/")
        self._whole = b"/" in pattern or b"**" in pattern
        body = b"".join(_pieces(pattern.lstrip(b"/") if anchored else pattern))
        prefix = b"" if anchored or not self._whole else rb"(?:.*/)?"
        self._regex = re.compile(prefix + body, re.DOTALL)

    def matches(self, path: bytes, directory: bool) -> bool:
        if self._directories and not directory:
            return False
        subject = path if self._whole else path.rpartition(b"/")[2]
        return self._regex.fullmatch(subject) is not None


def _pieces(pattern: bytes) -> Iterator[bytes]:
    """The pattern as pieces of a regular expression."""
    at = 0
    while at < len(pattern):
        octet = pattern[at : at + 1]
        at += 1
        if octet == b"*":
            stars = at
            while pattern[at : at + 1] == b"*":
                at += 1
            if at == stars:
                yield rb"[^/]*"
            elif stars == 1 and pattern[at : at + 1] == b"/":
                yield rb"(?:.*/)?"  # at the top as well
                at += 1
            else:
                yield rb".*"
        elif octet == b"?":
            yield rb"[^/]"
        elif octet == b"[":
            end = pattern.find(b"]", at + 1 + (pattern[at : at + 1] in {b"!", b"^"}))
            if end < 0:
                yield rb"\["
                continue
            yield _set(pattern[at:end])
            at = end + 1
        elif octet == b"\\" and at < len(pattern):
            yield re.escape(pattern[at : at + 1])
            at += 1
        else:
            yield re.escape(octet)


def _members(members: bytes) -> Iterator[bytes]:
    """Octets and ranges. One that runs backwards matches nothing, as in the shell; re would refuse
    it."""
    at = 0
    while at < len(members):
        low, high = members[at : at + 1], members[at + 2 : at + 3]
        if members[at + 1 : at + 2] == b"-" and high:
            at += 3
            if low <= high:
                yield re.escape(low) + b"-" + re.escape(high)
        else:
            at += 1
            yield re.escape(low)


def _set(inside: bytes) -> bytes:
    """``[…]``: what stands between the brackets, as a regular expression that matches no slash."""
    negated = inside[:1] in {b"!", b"^"}
    members = inside[1:] if negated else inside
    escaped = b"".join(_members(members))
    if not escaped:
        return rb"[^/]" if negated else rb"(?!)"
    return rb"(?!/)[" + (rb"^" if negated else b"") + escaped + rb"]"
