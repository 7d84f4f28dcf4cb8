"""What only an older state of a filesystem has, put into the newest one beside what is there.

For after a writer was shut out: the filesystem is recovered where it stands now, and the files that
the old writer had not published go into it again. Two halves, because the two states are opened one
after the other:

- :func:`rescue`, in the old one: each file with unpublished content, whole, into a directory, with
  what it was called and its attributes;
- :func:`place_rescued`, in the new one: each under its name if that is free, else as a *conflict
  copy* beside what has it. Nothing is ever overwritten, and what is there already with the same
  content is left alone; so it can be run again.

Files of which the servers did not give everything are not placed: a hole is no content. Names,
attributes and deletions alone are not brought over.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import trio

from usenetfs.daemon.parts import Parts
from usenetfs.daemon.staging_export import Exported, export_staged
from usenetfs.errors import PartialTransferError
from usenetfs.fs.namespace import NAME_MAX
from usenetfs.index.index import Index
from usenetfs.index.inodes import Inode
from usenetfs.trees.import_items import ImportOptions, ImportRoot
from usenetfs.trees.import_target import Attributes
from usenetfs.trees.import_tree import TreeImport
from usenetfs.trees.tally import Tally
from usenetfs.types import ROOT_INODE, InodeId, Lane

CHUNK: Final = 4 << 20

OLDER: Final = "this is an older state of the filesystem, which was recovered since"

DIRECTORY: Final = stat.S_IFDIR | 0o755
"""Of directories that are not there any more and are made again."""


@dataclass(frozen=True, slots=True)
class Rescued:
    """``path``: its names from the root. ``file``: where its content is."""

    path: tuple[bytes, ...]
    file: Path
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Placed:
    """``path``: what it is called now. ``action``: ``placed``, ``conflict`` or ``unchanged``."""

    path: str
    action: str


def conflict_name(name: bytes, host: str, when_ns: int, number: int) -> bytes:
    """``notes.txt`` → ``notes (conflict HOST 2026-05-01).txt``; then ``… 2).txt`` and so on."""
    stem, dot, suffix = name.rpartition(b".")
    if not stem or len(suffix) > 16:
        stem, dot, suffix = name, b"", b""
    day = time.strftime("%Y-%m-%d", time.gmtime(when_ns // 1_000_000_000))
    mark = f" (conflict {host.replace('/', '-')} {day}{f' {number}' if number > 1 else ''})"
    end = os.fsencode(mark) + dot + suffix
    room = NAME_MAX - len(end)
    if len(stem) > room:
        stem = stem[:room].decode(errors="ignore").encode() or stem[:room]
    return stem + end


# --- in the old state ----------------------------------------------------------------------------


def shut_out(path: Path, directory_key: bytes) -> None:
    """From now on the index of the old state is one that may only be read: nobody may upload or
    publish from there any more, whatever the servers say just now."""
    with Index.open(path, directory_key=directory_key) as index:
        state = index.chain.state()
        if state is not None and not state.fenced:
            with index.transaction():
                index.chain.set_state(replace(state, fenced=OLDER))


async def rescue(parts: Parts, directory: Path, tell: Callable[[Exported], None]) -> list[Rescued]:
    """Named files with unpublished content, copied below ``directory``: those that are whole."""
    found: list[Rescued] = []

    def note(exported: Exported) -> None:
        path = parts.index.dirents.path_of(exported.inode)
        row = parts.index.inodes.get(exported.inode)
        if path is None or row is None:
            return
        tell(exported)
        if not exported.missing:
            found.append(
                Rescued(
                    tuple(path.strip(b"/").split(b"/")),
                    directory / exported.path,
                    _attributes(parts, row),
                )
            )

    await export_staged(parts, directory, note)
    return found


def _attributes(parts: Parts, row: Inode) -> Attributes:
    xattrs = parts.store.xattrs(row.id)
    return Attributes(row.mode, row.uid, row.gid, row.atime_ns, row.mtime_ns, xattrs)


# --- in the new one ------------------------------------------------------------------------------


async def place_rescued(
    parts: Parts,
    rescued: Sequence[Rescued],
    host: str,
    staging_limit: int,
    tell: Callable[[Placed], None],
) -> None:
    """Put them in; they are staged when this returns. PartialTransferError if some are not."""
    roots: list[ImportRoot] = []
    places: list[tuple[InodeId, bytes, Rescued, str, str]] = []
    taken: set[tuple[InodeId, bytes]] = set()
    for each in rescued:
        *above, name = each.path
        parent, names = await _directory(parts, above, each.attributes, host)
        free = await _free_name(parts, parent, name, each, host, taken)
        shown = os.fsdecode(b"/".join([*names, free or name]))
        if free is None:
            tell(Placed(shown, "unchanged"))
            continue
        taken.add((parent, free))
        roots.append(ImportRoot(bytes(each.file), parent, free))
        action = "placed" if free == name and names == above else "conflict"
        places.append((parent, free, each, shown, action))
    failures: list[str] = []
    tally = Tally(lambda event: failures.append(event.get("reason", "")))
    engine = TreeImport(parts.store, tally, ImportOptions(staging_limit))
    await parts.publisher.unless_fenced(partial(engine.run, roots))
    for parent, name, each, shown, action in places:
        row = parts.store.lookup(parent, name)
        if row is not None:
            parts.store.set_attributes(row.id, each.attributes)
            tell(Placed(shown, action))
    parts.files.save()
    if tally.failed:
        raise PartialTransferError(f"{tally.failed} files could not be placed: {failures[0]}")


async def _directory(
    parts: Parts, names: Sequence[bytes], attributes: Attributes, host: str
) -> tuple[InodeId, list[bytes]]:
    """The directory to put something into, made where it is not there, and what it is called."""
    parent, used = ROOT_INODE, []
    for wanted in names:
        number, name = 0, wanted
        while (row := parts.store.lookup(parent, name)) is not None:
            if stat.S_ISDIR(row.mode):
                break
            number += 1
            name = conflict_name(wanted, host, attributes.mtime_ns, number)
        if row is None:
            made = Attributes(
                DIRECTORY,
                attributes.uid,
                attributes.gid,
                attributes.atime_ns,
                attributes.mtime_ns,
            )
            row = await parts.store.make_directory(parent, name, made)
        parent = row.id
        used.append(name)
    return parent, used


async def _free_name(
    parts: Parts,
    parent: InodeId,
    wanted: bytes,
    rescued: Rescued,
    host: str,
    taken: set[tuple[InodeId, bytes]],
) -> bytes | None:
    """A name that nothing has; None if the same content is there under one that it would get."""
    number, name = 0, wanted
    while True:
        row = parts.store.lookup(parent, name)
        if row is None and (parent, name) not in taken:
            return name
        if row is not None and await _has_content(parts, row, rescued.file):
            return None
        number += 1
        name = conflict_name(wanted, host, rescued.attributes.mtime_ns, number)


async def _has_content(parts: Parts, row: Inode, file: Path) -> bool:
    """Whether a file of the filesystem is like a local one."""
    size = await trio.to_thread.run_sync(lambda: file.stat().st_size)
    if not stat.S_ISREG(row.mode) or row.size != size:
        return False
    for offset in range(0, size, CHUNK):
        length = min(CHUNK, size - offset)
        there = await parts.files.read(row.id, offset, length, lane=Lane.READER)
        if bytes(there) != await trio.to_thread.run_sync(_read, file, offset, length):
            return False
    return True


def _read(file: Path, offset: int, length: int) -> bytes:
    with file.open("rb") as source:
        source.seek(offset)
        return source.read(length)
