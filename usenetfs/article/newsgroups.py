"""Which newsgroup an article goes to.

Round-robin over the general groups; before that, rules by file name and size where the user has
written any. Rules are off unless configured, because a group chosen by type tells the world what
kind of file it is; the caller passes a name only where all of an article's members belong to it.

Shared by all uploaders: one lock around the counters, held for an addition, never across anything
that waits, so it is safe for threads and tasks alike.
"""

from __future__ import annotations

import fnmatch
import re
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GroupRule:
    """Sends matching files to ``groups``. Every condition given must hold.

    A rule with patterns does not match where the name is unknown, nor one with sizes where the size
    is.
    """

    groups: tuple[str, ...]
    patterns: tuple[str, ...] = ()
    """Shell patterns (``*.mkv``) of the file's name without its directory; case is ignored."""
    min_size: int | None = None
    """Bytes; the file has at least this many."""
    max_size: int | None = None
    """Bytes; the file has at most this many."""

    def __post_init__(self) -> None:
        if not self.groups:
            raise ValueError("a newsgroup rule needs a newsgroup")
        if self.max_size is not None and self.max_size < (self.min_size or 0):
            raise ValueError("no file has the sizes of a newsgroup rule")


class _Rotation:
    """Some groups and the position of the next one; guarded by the owner's lock."""

    __slots__ = ("groups", "position")

    def __init__(self, groups: tuple[str, ...], position: int) -> None:
        self.groups = groups
        self.position = position % len(groups)

    def take(self) -> str:
        group = self.groups[self.position]
        self.position = (self.position + 1) % len(self.groups)
        return group


class NewsgroupChoice:
    """Chooses a newsgroup per article. Thread and task safe."""

    def __init__(
        self, groups: Sequence[str], rules: Sequence[GroupRule] = (), *, start: int | None = None
    ) -> None:
        """
        :param groups: the general groups, at least one.
        :param rules: tried in order, the first match wins.
        :param start: position of the first group taken; random by default, so that the group of
            the first article does not mark each start of the program.
        """
        if not groups:
            raise ValueError("there are no newsgroups to post to")
        if start is None:
            start = secrets.randbelow(len(groups))
        self._lock = threading.Lock()
        self._general = _Rotation(tuple(groups), start)
        self._rules = [(rule, _compiled(rule), _Rotation(rule.groups, 0)) for rule in rules]

    def __repr__(self) -> str:
        return f"<NewsgroupChoice {len(self._general.groups)} groups, {len(self._rules)} rules>"

    @property
    def has_rules(self) -> bool:
        """Whether a name or a size can change the choice."""
        return bool(self._rules)

    def choose(self, name: bytes | None = None, size: int | None = None) -> str:
        """The newsgroup for an article.

        :param name: of the file that all its members belong to, or None.
        :param size: of that file in bytes, or None.
        """
        rotation = self._rotation(name, size)
        with self._lock:
            return rotation.take()

    def _rotation(self, name: bytes | None, size: int | None) -> _Rotation:
        if self._rules:
            text = None if name is None else _lowered(name)
            for rule, pattern, rotation in self._rules:
                if _matches(rule, pattern, text, size):
                    return rotation
        return self._general


def _compiled(rule: GroupRule) -> re.Pattern[str] | None:
    if not rule.patterns:
        return None
    return re.compile("|".join(fnmatch.translate(pattern.lower()) for pattern in rule.patterns))


def _lowered(name: bytes) -> str:
    return name.rpartition(b"/")[2].decode("utf-8", "surrogateescape").lower()


def _matches(
    rule: GroupRule, pattern: re.Pattern[str] | None, name: str | None, size: int | None
) -> bool:
    if pattern is not None and (name is None or not pattern.match(name)):
        return False
    if rule.min_size is not None and (size is None or size < rule.min_size):
        return False
    return rule.max_size is None or (size is not None and size <= rule.max_size)
