"""Which files and directories are to stay in the cache of this machine.

A pin is a wish of one machine about its own cache, so it is not part of the filesystem: it is in a
small file beside the index, is not copied with a file's extended attributes, and never reaches the
servers. It names inodes, whose numbers stay the same for the life of an index.

Written as a whole under a temporary name, synced, and renamed. A file that cannot be understood is
put aside and said so: pins are a convenience, no reason not to mount.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Final

from usenetfs.errors import LocalStorageError
from usenetfs.types import InodeId

log = logging.getLogger("usenetfs.store")

VERSION: Final = 1
MAX_PINS: Final = 10_000
"""Pins are for folders and films; who pins every file by itself wants a larger cache instead."""


class Pins:
    """The pinned inodes, in memory and in ``file``. ``file`` None: in memory alone."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._inodes: set[InodeId] = set()
        if file is not None:
            self._inodes = _read(file)

    def __repr__(self) -> str:
        return f"<Pins {len(self._inodes)}>"

    def __contains__(self, inode: InodeId) -> bool:
        return inode in self._inodes

    def __len__(self) -> int:
        return len(self._inodes)

    def all(self) -> list[InodeId]:
        """Pinned inodes, some of which may be gone."""
        return sorted(self._inodes)

    def add(self, inode: InodeId) -> None:
        """LocalStorageError when it cannot be written down, or there are too many."""
        if inode in self._inodes:
            return
        if len(self._inodes) >= MAX_PINS:
            raise LocalStorageError(f"more than {MAX_PINS:,} pins", hint="pin a directory instead")
        self._write(self._inodes | {inode})

    def remove(self, *inodes: InodeId) -> None:
        """Those that are not pinned are passed over."""
        left = self._inodes.difference(inodes)
        if left != self._inodes:
            self._write(left)

    def _write(self, inodes: set[InodeId]) -> None:
        if self._file is not None:
            temporary = self._file.with_suffix(".new")
            text = json.dumps({"version": VERSION, "inodes": sorted(inodes)})
            try:
                with temporary.open("w", encoding="ascii") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self._file)
            except OSError as error:
                raise LocalStorageError(f"cannot write {self._file}: {error.strerror}") from error
        self._inodes = inodes


def _read(file: Path) -> set[InodeId]:
    try:
        content = json.loads(file.read_text(encoding="ascii"))
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}")
        return {InodeId(int(number)) for number in content["inodes"]}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning(
            "%s is not understood (%s): nothing is pinned until it is done anew", file, error
        )
        return set()
