"""What a follower needs to know of changesets: which rows, inodes and names they touch.

Pure. Must not know what is done about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from usenetfs.checkpoint.changeset import Change, Field, decode_changes
from usenetfs.checkpoint.digest import MODULUS, RowDigest, digest_bytes
from usenetfs.errors import DigestError, DocumentError
from usenetfs.index.normal_form import FORMS
from usenetfs.types import InodeId


@dataclass(slots=True)
class Touched:
    """``keys``: of rows, by table. ``inodes``: whose attributes change, ``content``: whose bytes.
    ``names``: ``(parent, name)``; ``places``: ``(parent, cookie)`` of names that lead elsewhere.
    """

    keys: dict[str, set[tuple[Any, ...]]] = field(default_factory=dict)
    inodes: set[InodeId] = field(default_factory=set)
    content: set[InodeId] = field(default_factory=set)
    names: set[tuple[InodeId, bytes]] = field(default_factory=set)
    places: set[tuple[InodeId, int]] = field(default_factory=set)


def touched_by(changesets: Iterable[bytes]) -> Touched:
    """Of all changesets together. DocumentError for what is none, or of unknown tables."""
    touched = Touched()
    for changeset in changesets:
        for change in decode_changes([changeset]):
            _note(touched, change)
    return touched


def _note(touched: Touched, change: Change) -> None:
    form = FORMS.get(change.table.name)
    row = change.old if change.old is not None else change.new
    if form is None or row is None or len(row) != len(form.columns):
        raise DocumentError(f"a changeset has a table {change.table.name!r} that is not known")
    key = tuple(row[place] for place in form.key_places)
    touched.keys.setdefault(form.name, set()).add(key)
    match form.name:
        case "inodes":
            touched.inodes.add(_inode(key[0]))
            touched.content.add(_inode(key[0]))
        case "symlinks" | "xattrs":
            touched.inodes.add(_inode(key[0]))
        case "blocks":
            touched.content.add(_inode(key[0]))
        case "dirents":
            _note_name(touched, change)


def _note_name(touched: Touched, change: Change) -> None:
    for row in (change.old, change.new):
        if row is None:
            continue
        parent, cookie, name, inode = row
        if isinstance(inode, int):
            touched.inodes.add(_inode(inode))
        if isinstance(parent, int):
            touched.inodes.add(_inode(parent))
            if isinstance(name, bytes):
                touched.names.add((_inode(parent), name))
            elif isinstance(cookie, int):
                touched.places.add((_inode(parent), cookie))


def _inode(value: Field) -> InodeId:
    if not isinstance(value, int):
        raise DocumentError("a changeset has an inode that is no number")
    return InodeId(value)


def check_digest(
    digest: RowDigest,
    old: bytes,
    new: bytes,
    before: Iterable[tuple[str, tuple[Any, ...]]],
    after: Iterable[tuple[str, tuple[Any, ...]]],
) -> None:
    """Whether replacing rows ``before`` by ``after`` leads from one digest to the other."""
    total = int.from_bytes(old, "big")
    total -= sum(digest.row(table, row) for table, row in before)
    total += sum(digest.row(table, row) for table, row in after)
    if digest_bytes(total % MODULUS) != new:
        raise DigestError("the changes do not lead to the state that was published")
