"""``usenetfs ls NAME:/PATH``: list a directory, or show one file, mounted or not."""

from __future__ import annotations

import datetime
import os
import stat
import sys

from usenetfs.cli import passphrase
from usenetfs.cli.context import Common
from usenetfs.cli.offline import open_index
from usenetfs.cli.output import say_json
from usenetfs.cli.unlock import unlock_filesystem
from usenetfs.errors import PathNotFoundError, UsageError
from usenetfs.index.index import Index
from usenetfs.index.inodes import Inode
from usenetfs.types import ROOT_INODE

BATCH = 1000

Entry = tuple[bytes, Inode]


def run(common: Common, place: str, *, long: bool, as_json: bool) -> None:
    """List what is at ``place``, which is ``NAME:/PATH`` or ``NAME``."""
    name, _, path = place.partition(":")
    if not name:
        raise UsageError(
            f'"{place}" is not of the form NAME:/PATH', hint="for example: photos:/2026"
        )
    paths = common.directories.existing(name)
    given = passphrase.obtain(common, prompt=f"Passphrase for {name}", name=name)
    unlocked = unlock_filesystem(paths, given)
    with open_index(paths, unlocked) as index:
        inode, last = _find(index, os.fsencode(path))
        entries = _entries(index, inode) if stat.S_ISDIR(inode.mode) else [(last, inode)]
        if as_json:
            say_json([_as_json(index, entry) for entry in entries])
            return
        for entry in entries:
            _print(_long(index, entry) if long else entry[0])


def _find(index: Index, path: bytes) -> tuple[Inode, bytes]:
    """The inode at ``path`` and the last name on the way to it. Links are not followed."""
    found, name = index.inodes.get(ROOT_INODE), b"/"
    for part in path.split(b"/"):
        if part in {b"", b"."}:
            continue
        child = index.dirents.lookup(found.id, part) if found is not None else None
        found, name = (index.inodes.get(child), part) if child is not None else (None, part)
        if found is None:
            shown = path.decode(errors="replace")
            raise PathNotFoundError(f"{shown}: there is no such file or directory")
    assert found is not None
    return found, name


def _entries(index: Index, directory: Inode) -> list[Entry]:
    entries: list[Entry] = []
    cookie = 0
    while batch := index.dirents.list(directory.id, cookie, BATCH):
        entries += [(entry[1], entry[2]) for entry in batch]
        cookie = batch[-1][0]
    return sorted(entries)


def _long(index: Index, entry: Entry) -> bytes:
    name, inode = entry
    moment = datetime.datetime.fromtimestamp(inode.mtime_ns / 1e9, datetime.UTC).astimezone()
    safety = index.durability_of(inode.id).name.lower()
    facts = (
        f"{stat.filemode(inode.mode)} {inode.nlink:>3} {inode.uid:>5} {inode.gid:>5} "
        f"{inode.size:>14,} {moment:%Y-%m-%d %H:%M} {safety:>8} "
    )
    target = index.symlinks.get(inode.id) if stat.S_ISLNK(inode.mode) else None
    return facts.encode() + name + (b" -> " + target if target is not None else b"")


def _as_json(index: Index, entry: Entry) -> dict[str, object]:
    name, inode = entry
    return {
        "name": name.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode(),
        "type": _TYPES.get(stat.S_IFMT(inode.mode), "other"),
        "mode": f"{stat.S_IMODE(inode.mode):04o}",
        "links": inode.nlink,
        "uid": inode.uid,
        "gid": inode.gid,
        "size": inode.size,
        "mtime_ns": inode.mtime_ns,
        "durability": index.durability_of(inode.id).name.lower(),
    }


_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


def _print(line: bytes) -> None:
    """Names are octets; a terminal gets no control characters from them."""
    if sys.stdout.isatty():
        text = line.decode("utf-8", "replace")
        line = "".join(c if c.isprintable() else "?" for c in text).encode()
    sys.stdout.buffer.write(line + b"\n")
