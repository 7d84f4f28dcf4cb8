"""What an import is made of: its options, its sources, and one thing on its way."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from usenetfs.trees.exclude import Exclude
from usenetfs.trees.folders import Folder
from usenetfs.trees.import_plan import Step
from usenetfs.trees.import_target import Attributes, ImportTarget
from usenetfs.trees.links import LinkGroup
from usenetfs.trees.local_files import Entry
from usenetfs.trees.tally import Tally
from usenetfs.types import InodeId


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """``staging_limit``: octets staged above which the import waits. ``checksum``: compare contents
    where sizes are equal. ``dry_run``: only say what would be. ``own_device``: that of the mount
    of the target, which must not be read from here (it would wait for itself)."""

    staging_limit: int
    checksum: bool = False
    dry_run: bool = False
    exclude: Exclude = field(default_factory=Exclude)
    own_device: int | None = None


@dataclass(frozen=True, slots=True)
class ImportRoot:
    """One source. ``parent`` and ``name``: what it becomes; ``name`` empty: its entries go into
    ``parent``. ``parent`` None, in a dry run: a directory that is not there."""

    path: bytes
    parent: InodeId | None
    name: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """A directory in the filesystem, and what it is to be like once all is in it.

    ``inode`` None: it would be made, were this no dry run. ``attributes`` None: as it is.
    """

    inode: InodeId | None
    attributes: Attributes | None = None


@dataclass(slots=True, eq=False)
class Item:
    """One thing to be placed in a folder."""

    entry: Entry
    name: bytes
    folder: Folder[Place]
    group: LinkGroup[Item, InodeId] | None = None


def say_would(tally: Tally, path: bytes, step: Step, size: int) -> None:
    """What would be done, in a dry run."""
    if step is Step.SAME:
        tally.skip(path, size)
    else:
        tally.bytes_done += size
        tally.finished(path, "would send")


async def keep(target: ImportTarget, inode: InodeId, attributes: Attributes) -> None:
    """The content is there: bring attributes up to date."""
    if not attributes.same(target.inode(inode), target.xattrs(inode)):
        target.set_attributes(inode, attributes)
    await trio.lowlevel.checkpoint()
